//! Limits, freeze, kill, statistics and OOM events of a container's control group, v2 and v1.
#![forbid(unsafe_code)]
