//! `cairn admin access`: users, groups, policies and keys, through the admin API of the node of this machine.

use std::path::PathBuf;

use serde_json::Value;

use super::{
    access_args::{AccessArgs, AccessCommand, GroupCommand, KeyCommand, SharedPolicyCommand, UserCommand},
    ask::{self, Page},
};
use crate::{admin::AccessOrder, config::Period, failure::Failure, files};

const PAGE: Page = Page { path: "/v1/access", refused: Failure::AccessRefused };

/// Does it, and says what was found or done.
pub(crate) async fn run(args: &AccessArgs) -> Result<String, Failure> {
    let api = &args.api;
    let order = order(&args.command)?;
    let change = serde_json::to_value(order).map_err(|error| Failure::Encode(error.to_string()))?;
    let answer = PAGE.ask(&api.admin, Some(change)).await?;
    if api.json {
        return Ok(String::from_utf8_lossy(&answer).into_owned());
    }
    in_words(&ask::read(&api.admin, &answer)?)
}

fn order(command: &AccessCommand) -> Result<AccessOrder, Failure> {
    use AccessOrder as Order;
    Ok(match command {
        AccessCommand::User(command) => user_order(command)?,
        AccessCommand::Group(command) => group_order(command)?,
        AccessCommand::Key(command) => key_order(command)?,
        AccessCommand::Policy(command) => match command {
            SharedPolicyCommand::Put { name, file } => {
                Order::PutPolicy { name: name.clone(), text: files::read_text(file)? }
            }
            SharedPolicyCommand::List { after } => Order::Policies { after: after.clone() },
            SharedPolicyCommand::Show { name } => Order::Policy { name: name.clone() },
            SharedPolicyCommand::Delete { name } => Order::DeletePolicy { name: name.clone() },
        },
        AccessCommand::Explain { user, action, resource, with } => Order::Explain {
            user: user.clone(),
            action: action.clone(),
            resource: resource.clone(),
            context: with.clone(),
        },
    })
}

fn user_order(command: &UserCommand) -> Result<AccessOrder, Failure> {
    use AccessOrder as Order;
    Ok(match command.clone() {
        UserCommand::Create { name } => Order::CreateUser { name },
        UserCommand::Limit { name, limits } => Order::LimitUser { name, limits: limits.into() },
        UserCommand::List { after } => Order::Users { after },
        UserCommand::Show { name } => Order::User { name },
        UserCommand::Enable { name } => Order::EnableUser { name, enabled: true },
        UserCommand::Disable { name } => Order::EnableUser { name, enabled: false },
        UserCommand::Attach { name, policy, file } => Order::AttachToUser { name, policy, text: text(file)? },
        UserCommand::Detach { name, policy } => Order::DetachFromUser { name, policy },
        UserCommand::Join { name, group } => Order::Join { user: name, group },
        UserCommand::Leave { name, group } => Order::Leave { user: name, group },
        UserCommand::Delete { name } => Order::DeleteUser { name },
    })
}

fn group_order(command: &GroupCommand) -> Result<AccessOrder, Failure> {
    use AccessOrder as Order;
    Ok(match command.clone() {
        GroupCommand::Create { name } => Order::CreateGroup { name },
        GroupCommand::List { after } => Order::Groups { after },
        GroupCommand::Show { name } => Order::Group { name },
        GroupCommand::Attach { name, policy, file } => Order::AttachToGroup { name, policy, text: text(file)? },
        GroupCommand::Detach { name, policy } => Order::DetachFromGroup { name, policy },
        GroupCommand::Delete { name } => Order::DeleteGroup { name },
    })
}

fn key_order(command: &KeyCommand) -> Result<AccessOrder, Failure> {
    use AccessOrder as Order;
    let seconds = |period: Period| period.0.as_secs();
    Ok(match command.clone() {
        KeyCommand::Create { user, expires_in, session_policy } => {
            Order::CreateKey { user, expires_seconds: expires_in.map(seconds), session_policy: text(session_policy)? }
        }
        KeyCommand::Rotate { access_key, grace } => Order::RotateKey { access_key, grace_seconds: seconds(grace) },
        KeyCommand::Enable { access_key } => Order::EnableKey { access_key, enabled: true },
        KeyCommand::Disable { access_key } => Order::EnableKey { access_key, enabled: false },
        KeyCommand::Expire { access_key, after } => Order::ExpireKey { access_key, seconds: after.map(seconds) },
        KeyCommand::Delete { access_key } => Order::DeleteKey { access_key },
    })
}

fn text(file: Option<PathBuf>) -> Result<Option<String>, Failure> {
    Ok(file.map(|file| files::read_text(&file)).transpose()?)
}

fn in_words(answer: &Value) -> Result<String, Failure> {
    if let (Some(access), Some(secret)) = (answer["access_key"].as_str(), answer["secret_key"].as_str()) {
        return Ok(format!("access key  {access}\nsecret key  {secret}\nThe secret is not shown again.\n"));
    }
    if let Some(why) = answer["why"].as_str() {
        return Ok(format!("{why}\n"));
    }
    if answer["done"].as_bool() == Some(true) {
        return Ok("done: all nodes go by it within 3 seconds\n".to_owned());
    }
    let lists = ["users", "groups", "policies"].into_iter().filter(|_| answer.get("next").is_some());
    if let Some(names) = lists.filter_map(|list| answer[list].as_array()).next() {
        let mut text: String = names.iter().filter_map(Value::as_str).map(|name| format!("{name}\n")).collect();
        if let Some(next) = answer["next"].as_str() {
            text.push_str(&format!("there may be more: --after {next}\n"));
        }
        return Ok(text);
    }
    let text = serde_json::to_string_pretty(answer).map_err(|error| Failure::Encode(error.to_string()))?;
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_told_in_words() {
        let words = |answer: Value| in_words(&answer).unwrap();
        let made = words(json!({"access_key": "AKIAX", "secret_key": "s"}));
        assert!(made.contains("AKIAX") && made.contains("not shown again"), "{made}");
        assert_eq!(words(json!({"users": ["a", "b"], "next": null})), "a\nb\n");
        assert!(words(json!({"users": ["a"], "next": "a"})).ends_with("--after a\n"));
        assert!(words(json!({"name": "a", "groups": ["g"]})).contains("\"groups\""));
        assert_eq!(words(json!({"allowed": true, "why": "allowed by statement 1"})), "allowed by statement 1\n");
    }
}
