//! What a statement is about.

use crate::{
    error::Fault,
    json::Json,
    request::Context,
    template::{Stars, Template},
};

const PREFIX: &str = "arn:aws:s3:::";

#[derive(Clone, Debug)]
enum Resource {
    Any,
    /// Of what follows the prefix: `bucket` or `bucket/key`.
    Named(Template),
}

#[derive(Clone, Debug)]
pub(crate) struct Resources(Vec<Resource>);

/// What a list of resources may match.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reach {
    pub(crate) bucket: bool,
    pub(crate) objects: bool,
}

impl Resources {
    /// `bucket`: they must be that bucket or in it.
    pub(crate) fn read(
        value: &Json,
        field: &'static str,
        bucket: Option<&str>,
        variables: bool,
    ) -> Result<Self, Fault> {
        let read = value.texts(field)?.into_iter().map(|text| {
            let wrong = || Fault::Resource(text.to_owned());
            if text == "*" && bucket.is_none() {
                return Ok(Resource::Any);
            }
            let name = text.strip_prefix(PREFIX).filter(|name| !name.is_empty()).ok_or_else(wrong)?;
            let template = Template::read(name, Stars::Wild, variables)?;
            if let Some(bucket) = bucket {
                let reach = Reach::of(&template, bucket);
                if !template.beginning().starts_with(bucket) || !(reach.bucket || reach.objects) {
                    return Err(wrong());
                }
            }
            Ok(Resource::Named(template))
        });
        read.collect::<Result<_, _>>().map(Self)
    }

    /// Whether it is one of them; `resource` is an ARN. None if that hangs on a variable without a value.
    pub(crate) fn include(&self, resource: &str, context: &Context<'_>) -> Option<bool> {
        let name = resource.strip_prefix(PREFIX);
        let mut told = true;
        for listed in &self.0 {
            let matched = match (listed, name) {
                (Resource::Any, _) => Some(true),
                (Resource::Named(_), None) => Some(false),
                (Resource::Named(template), Some(name)) => template.matches(name, context),
            };
            match matched {
                Some(true) => return Some(true),
                Some(false) => {}
                None => told = false,
            }
        }
        told.then_some(false)
    }

    /// What they may match of a bucket and its objects.
    pub(crate) fn reach(&self, bucket: &str) -> Reach {
        let reaches = self.0.iter().map(|resource| match resource {
            Resource::Any => Reach { bucket: true, objects: true },
            Resource::Named(template) => Reach::of(template, bucket),
        });
        reaches.fold(Reach::default(), |all, one| Reach {
            bucket: all.bucket || one.bucket,
            objects: all.objects || one.objects,
        })
    }

    /// The keys of their variables.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        let templates = self.0.iter().filter_map(|resource| match resource {
            Resource::Any => None,
            Resource::Named(template) => Some(template),
        });
        templates.flat_map(Template::keys)
    }
}

impl Reach {
    fn of(template: &Template, bucket: &str) -> Self {
        Self { bucket: template.may_match(bucket), objects: template.may_go_on_from(&format!("{bucket}/")) }
    }
}
