//! Status of objects: kept, shown, written.
