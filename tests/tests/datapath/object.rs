//! The object as a whole: it has what the loader looks for, and the verifier takes it in every shape.

use gateway_common::object::{map, program, switch};

use crate::kernel::{Kernel, Switches, usable};

/// Instructions that the verifier may look at for one program: far below its own limit of a million, so that a change
/// that makes a program hard to verify is seen before it cannot be loaded any more.
const VERIFIED_MAX: u32 = 20_000;

#[test]
fn every_program_and_map_of_the_contract_is_there() {
    if !usable("every_program_and_map_of_the_contract_is_there") {
        return;
    }
    let kernel = Kernel::load(&Switches::default());
    let mut programs: Vec<_> = kernel.ebpf.programs().map(|(name, _)| name.to_owned()).collect();
    let mut maps: Vec<_> = kernel.ebpf.maps().map(|(name, _)| name.to_owned()).collect();
    maps.retain(|name| !name.starts_with('.'));
    let (mut named_programs, mut named_maps) = (program::ALL.to_vec(), map::ALL.to_vec());
    programs.sort_unstable();
    maps.sort_unstable();
    named_programs.sort_unstable();
    named_maps.sort_unstable();
    assert_eq!(programs, named_programs);
    assert_eq!(maps, named_maps);
}

/// The programs, and the switches that they read.
const READS: &[(&[&str], &[&str])] = &[
    (
        &[program::INGRESS_XDP, program::INGRESS_TC],
        &[switch::DENY, switch::LIMIT, switch::SLOTS, switch::EVENTS, switch::RAW_IP, switch::FRESH],
    ),
    (&[program::PICK], &[switch::PIN_CPU]),
    (&[program::TRACK], &[switch::SLOTS, switch::EVENTS]),
    (&[program::WIRE, program::FLOOR_XDP, program::FLOOR_TC], &[]),
];

#[test]
fn every_setting_of_the_switches_loads_within_the_budget() {
    if !usable("every_setting_of_the_switches_loads_within_the_budget") {
        return;
    }
    assert_eq!(READS.iter().flat_map(|(programs, _)| *programs).copied().collect::<Vec<_>>(), program::ALL);
    for (programs, switches) in READS {
        let mut most = vec![0; programs.len()];
        for bits in 0..1_u8 << switches.len() {
            let on_off = switches.iter().enumerate().map(|(at, name)| (*name, bits >> at & 1)).collect();
            let kernel = Kernel::load_some(&Switches { on_off, ..Switches::default() }, programs);
            for (name, most) in programs.iter().zip(&mut most) {
                let verified = kernel.info(name).verified_instruction_count().unwrap();
                assert!(
                    verified <= VERIFIED_MAX,
                    "{name}, {switches:?} at {bits:b}: {verified} instructions"
                );
                *most = verified.max(*most);
            }
        }
        programs.iter().zip(most).for_each(|(name, most)| println!("{name}: at most {most} verified"));
    }
}
