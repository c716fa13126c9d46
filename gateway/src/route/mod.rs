//! Match order of the specification: which rule a request meets. Pure.
