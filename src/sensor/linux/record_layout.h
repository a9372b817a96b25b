/* SPDX-License-Identifier: Apache-2.0 OR BSD-2-Clause OR GPL-2.0-only */
/*
 * The record that the eBPF programs write and the sensor reads: into the ring buffer (exec, fork, exit) and into the
 * stream of the task iterator (task; counters: a task without its image and places). Shared by C for BPF and C++; both
 * are built together, so the layout is the machine's own byte order and may change with any build.
 *
 *   struct daemoneye_record      fixed part, all integers naturally aligned
 *   filename                     lengths[DE_FILENAME] bytes, as passed to execve, no NUL
 *   arguments                    lengths[DE_ARGUMENTS] bytes, NUL-separated, cut at DE_MAX_ARGUMENTS or where a page
 *                                could not be read
 *   executable, cwd, cgroup      components, the leaf first, each ended by a NUL: /usr/bin/id is "id\0bin\0usr\0", and
 *                                the root itself is no bytes at all
 *
 * Paths lead through all mounts up to the root of the mount namespace the process lives in: a bind mount is named by
 * where it is mounted, and what a chroot hides is named all the same.
 *
 * `size` is the sum of all of it. Only exec and task records have the variable part; of a counters record it is at most
 * the name of an executable that never had a folder. The reader trusts none of the lengths.
 */
#pragma once

#define DE_RECORD_MAGIC 0x4544u
#define DE_COMM_BYTES 16
#define DE_TTY_BYTES 64

#define DE_MAX_FILENAME 4096
#define DE_MAX_ARGUMENTS 16384
#define DE_MAX_PATH 4096
#define DE_MAX_CGROUP 2048
#define DE_PAGE 4096    /* no kernel has smaller ones */
#define DE_MAX_NAME 256 /* NAME_MAX and its NUL */
#define DE_MAX_VARIABLE (DE_MAX_FILENAME + DE_MAX_ARGUMENTS + 2 * DE_MAX_PATH + DE_MAX_CGROUP)

enum daemoneye_record_kind { DE_EXEC = 1, DE_FORK = 2, DE_EXIT = 3, DE_TASK = 4, DE_COUNTERS = 5 };

enum daemoneye_record_part { DE_FILENAME, DE_ARGUMENTS, DE_EXECUTABLE, DE_CWD, DE_CGROUP, DE_PARTS };

enum daemoneye_record_flag {
  DE_HAS_FILENAME = 1 << 0,
  DE_HAS_ARGUMENTS = 1 << 1,
  DE_HAS_EXECUTABLE = 1 << 2,
  DE_HAS_CWD = 1 << 3,
  DE_HAS_CGROUP = 1 << 4,
  DE_HAS_TTY = 1 << 5,
  DE_HAS_MEMORY = 1 << 6, /* resident_pages */
  DE_HAS_CPU = 1 << 7,    /* cpu_ns; absent when there were too many threads to add up */
  DE_KERNEL_THREAD = 1 << 8,
  DE_UNLINKED = 1 << 9,        /* the executable's directory entry is gone */
  DE_PSEUDO_FILE = 1 << 10,    /* the executable never had a directory: memfd and its kind */
  DE_EXECUTABLE_CUT = 1 << 11, /* the leading components of the path are missing */
  DE_CWD_CUT = 1 << 12,
  DE_CGROUP_CUT = 1 << 13,
  DE_HAS_NAMESPACES = 1 << 14,
  DE_HAS_FILE = 1 << 15, /* inode to links: the executable's identity */
};

/* In the order of Namespaces (sensor/source.h). */
enum daemoneye_record_namespace {
  DE_NS_MNT,
  DE_NS_PID,
  DE_NS_NET,
  DE_NS_USER,
  DE_NS_UTS,
  DE_NS_IPC,
  DE_NS_CGROUP,
  DE_NAMESPACES
};

struct daemoneye_record {
  unsigned short magic;
  unsigned char kind;
  unsigned char state; /* task: the letter of /proc/PID/stat */
  unsigned int size;
  unsigned int flags;
  unsigned int pid, ppid;             /* thread group ids in the initial pid namespace */
  int exit_status;                    /* exit: as wait(2) gives it */
  unsigned long long boot_ns;         /* when, by CLOCK_BOOTTIME of the initial time namespace */
  unsigned long long start_ns;        /* start_boottime of the thread group leader */
  unsigned long long parent_start_ns; /* the same of the parent */
  /* The executable, as stat(2) gives it; nanoseconds since 1970. */
  unsigned long long inode;
  unsigned long long file_bytes;
  long long mtime_ns, ctime_ns;
  unsigned int device; /* the kernel's dev_t: major << 20 | minor */
  unsigned int links;
  unsigned int uid, gid, euid, egid, loginuid; /* in the initial user namespace; loginuid ~0: unset */
  unsigned int session;
  unsigned long long arguments_bytes; /* true length */
  long long resident_pages;
  unsigned long long cpu_ns; /* user + system of all threads, dead ones included */
  char comm[DE_COMM_BYTES];
  char tty[DE_TTY_BYTES];                 /* the kernel's name: "pts3" */
  unsigned int namespaces[DE_NAMESPACES]; /* inode numbers, as in /proc/PID/ns */
  unsigned int lengths[DE_PARTS];
};

#define DE_MAX_RECORD (sizeof(struct daemoneye_record) + DE_MAX_VARIABLE)
