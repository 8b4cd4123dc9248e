/* What every object file has. */
#pragma once
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

/*
 * Identifies the object file, so that meshd recognizes the programs of its own version in a running kernel. Set when the
 * object is loaded; `bpftool prog show` prints variables of this prefix.
 */
const volatile char bpf_metadata_build[33];

char _license[] SEC("license") = "GPL";
