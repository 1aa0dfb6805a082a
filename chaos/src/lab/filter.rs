//! What a node hears of whom: a program of the classic packet filter (`tc filter … bpf`), which drops silently, before
//! anything else of the node sees the packet.

use std::net::Ipv4Addr;

/// What becomes of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// So many of a hundred are lost.
    Lost(u32),
    Dropped,
}

/// Where the type and the sender stand in a frame of Ethernet with IPv4.
const ETHERTYPE: u32 = 12;
const SENDER: u32 = 26;
const IPV4: u32 = 0x0800;
/// `SKF_AD_OFF + SKF_AD_RANDOM`: a load from there gives a random word.
const RANDOM: u32 = 0xffff_f000 + 56;
/// `TC_ACT_UNSPEC` goes on, `TC_ACT_SHOT` drops.
const PASS: u32 = u32::MAX;
const DROP: u32 = 2;

const LOAD_HALF: u16 = 0x28;
const LOAD_WORD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// An instruction: what, how far to jump if so and if not, and its number.
type Code = (u16, usize, usize, u32);

/// As `tc` reads it. No more senders than a jump reaches over.
pub(super) fn program(fates: &[(Ipv4Addr, Fate)]) -> String {
    let mut code: Vec<Code> = vec![(LOAD_HALF, 0, 0, ETHERTYPE), (JUMP_EQUAL, 1, 0, IPV4), (RETURN, 0, 0, PASS)];
    for (sender, fate) in fates {
        // What was loaded for the last one may be a random number by now.
        code.push((LOAD_WORD, 0, 0, SENDER));
        let answer: &[Code] = match fate {
            Fate::Dropped => &[(RETURN, 0, 0, DROP)],
            Fate::Lost(percent) => &[
                (LOAD_WORD, 0, 0, RANDOM),
                (JUMP_AT_LEAST, 1, 0, u32::MAX / 100 * (*percent).min(100)),
                (RETURN, 0, 0, DROP),
                (RETURN, 0, 0, PASS),
            ],
        };
        code.push((JUMP_EQUAL, 0, answer.len(), u32::from(*sender)));
        code.extend_from_slice(answer);
    }
    code.push((RETURN, 0, 0, PASS));
    let lines: Vec<String> = code.iter().map(|(what, yes, no, k)| format!("{what} {yes} {no} {k}")).collect();
    format!("{},{}", lines.len(), lines.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program answers to a frame, with `random` as the random word.
    fn run(program: &str, ethertype: u32, sender: Ipv4Addr, random: u32) -> u32 {
        let code: Vec<Vec<u64>> = program
            .split(',')
            .skip(1)
            .map(|line| line.split(' ').map(|number| number.parse().unwrap_or(0)).collect())
            .collect();
        let (mut at, mut register) = (0, 0);
        loop {
            let (what, k) = (code[at][0] as u16, code[at][3] as u32);
            let jump = |so: bool| code[at][if so { 1 } else { 2 }] as usize;
            match what {
                RETURN => return k,
                LOAD_HALF => register = ethertype,
                LOAD_WORD if k == SENDER => register = sender.into(),
                LOAD_WORD => register = random,
                JUMP_EQUAL => at += jump(register == k),
                _ => at += jump(register >= k),
            }
            at += 1;
        }
    }

    #[test]
    fn just_what_comes_from_those_senders_is_dropped_and_of_others_a_share() {
        let [one, two, three] = [1, 2, 3].map(|last| Ipv4Addr::new(10, 0, 0, last));
        let program = program(&[(one, Fate::Lost(25)), (two, Fate::Dropped)]);
        assert!(program.starts_with("13,40 0 0 12,"), "{program}");
        for random in [0, u32::MAX / 5, u32::MAX / 3, u32::MAX] {
            assert_eq!(run(&program, IPV4, two, random), DROP);
            assert_eq!(run(&program, IPV4, three, random), PASS);
            assert_eq!(run(&program, IPV4, one, random), if random < u32::MAX / 4 { DROP } else { PASS });
            // Who asks where an address is, is answered.
            assert_eq!(run(&program, 0x0806, two, random), PASS);
        }
        assert_eq!(run(&super::program(&[]), IPV4, one, 0), PASS);
    }
}
