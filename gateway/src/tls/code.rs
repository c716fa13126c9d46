//! Codes of what comes to light where trust and revocation data are put to use: after translation, whose own codes say
//! what the documents alone tell.

codes! {
    /// The sorts of findings that trust and revocation data make. Codes are stable: a retired one is not given again.
    enum Code;

    /// No certificate of a bundle can be a trust anchor.
    NoAnchor = "YT0301",
    /// A CRL is past its nextUpdate, and decides for a while yet.
    CrlLate = "YT0501",
    /// A CRL is past its nextUpdate for longer than is allowed; clients of its issuer are refused.
    CrlStale = "YT0502",
    /// A CRL has no CRLNumber.
    CrlUnnumbered = "YT0503",
    /// A CRL is no longer in its source, and decides on.
    CrlKept = "YT0504",
    /// A CRL is of an issuer that is not in the bundle.
    CrlWaiting = "YT0505",
    /// A CRL cannot be used; an earlier one decides on.
    CrlSuperseded = "YT0506",
    /// A CRL cannot be used and there is no earlier one; clients are refused for it.
    CrlUnusable = "YT0507",
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn codes_are_distinct_and_explained() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{code:?}");
            assert!(code.as_str().starts_with("YT03") || code.as_str().starts_with("YT05"), "{code:?}");
            assert!(code.meaning().ends_with('.'), "{code:?}");
        }
    }
}
