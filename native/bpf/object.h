/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What every object file has. */
#pragma once
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

/*
 * Identifies the object file, so that meshd recognizes the programs of its own version in a running kernel. Set when the
 * object is loaded; `bpftool prog show` prints variables of this prefix.
 */
const volatile char bpf_metadata_build[33];

/* For the kernel: bpf_fib_lookup is for programs under the GPL only. */
char _license[] SEC("license") = "GPL";
