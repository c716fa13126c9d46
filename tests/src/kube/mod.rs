//! A Kubernetes cluster of the real programs: etcd, API server, controller manager, scheduler and, when asked, kube-proxy,
//! each built from its Go module; a small stand-in for kubelet on every node ([`nodelet`]).
//!
//! In comes how large it is to be; out comes a [`Cluster`] with a lan of its own, which tests and people reach by
//! `kubectl` and by programs run inside of that lan. Everything lives in namespaces of one process, so that when this one
//! ends nothing of the cluster is left: no process, no interface, no mount.
#![allow(clippy::print_stdout, reason = "what a process of the cluster prints is its log")]

mod certs;
mod cluster;
pub mod net;
pub mod nodelet;
pub mod programs;
mod serve;

pub use cluster::{Channel, Cluster, Options, State, Status};
pub use programs::Programs;
pub use serve::serve;
