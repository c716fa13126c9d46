//! The kernel programs' object, as it was embedded when the binary was built.

use aws_lc_rs::digest::{SHA256, digest};

/// The object's bytes, aligned as the loader wants them. Programs, maps and switches in it have the names that
/// [`gateway_common::object`] lists.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("YETT_EBPF_OBJECT_EMBEDDED"));

/// The object's SHA-256 in hexadecimal: two binaries with the same one attach the same programs.
pub fn sha256() -> String {
    digest(&SHA256, OBJECT).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_embedded_is_an_object_for_the_kernel_in_one_layout() {
        assert_eq!(OBJECT[..6], [0x7f, b'E', b'L', b'F', 2, 1], "64 bits, the little end first");
        assert_eq!(OBJECT[18..20], 247_u16.to_le_bytes(), "EM_BPF");
        assert_eq!(OBJECT.as_ptr().align_offset(8), 0);
        assert_eq!(sha256().len(), 64);
    }
}
