/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What can be read of a task, for the exec programs and for the iterator alike. */
#pragma once

// clang-format off: the kernel's types come first
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
// clang-format on

#include "sensor/linux/record_layout.h"

#define PF_KTHREAD 0x00200000
#define PIDTYPE_SID 3
#define SIGNAL_GROUP_EXIT 4
/* Since 6.13 the kernel keeps a mark of its own in the nanoseconds of a file's ctime. */
#define CTIME_QUERIED (1U << 31)
/* As many steps as a path of DE_MAX_PATH bytes can have components, and some mounts on the way. */
#define MAX_WALK_STEPS (DE_MAX_PATH / 2 + 64)
#define MAX_HIERARCHIES 16

/* A record being put together. The slack lets the verifier see that a last component cannot overrun. */
struct scratch {
  struct daemoneye_record record;
  __u8 variable[DE_MAX_VARIABLE + DE_MAX_NAME];
};

struct walk {
  __u8* variable;
  __u32 used; /* of `variable` */
  __u32 limit;
  union {
    struct dentry* dentry;
    struct kernfs_node* node;
  };
  struct vfsmount* mount;
  bool cut, pseudo;
};

/* Appends one component; false when it has to stop. */
static __always_inline bool append_name(struct walk* walk, const void* name) {
  __u32 at = walk->used;
  if (at > walk->limit || at > DE_MAX_VARIABLE) {
    walk->cut = true;
    return false;
  }
  long size = bpf_probe_read_kernel_str(walk->variable + at, DE_MAX_NAME, name);
  if (size <= 0) {
    walk->cut = true;
    return false;
  }
  walk->used = at + size;
  return true;
}

static long path_step(__u64 step, struct walk* walk) {
  struct dentry* dentry = walk->dentry;
  struct vfsmount* vfsmount = walk->mount;
  if (dentry == BPF_CORE_READ(vfsmount, mnt_root)) {
    struct mount* mount = (void*)vfsmount - bpf_core_field_offset(struct mount, mnt);
    struct mount* parent = BPF_CORE_READ(mount, mnt_parent);
    if (parent == mount || !parent) {
      walk->dentry = NULL; /* the root of the mount namespace, or a detached tree */
      return 1;
    }
    walk->dentry = BPF_CORE_READ(mount, mnt_mountpoint);
    walk->mount = (void*)parent + bpf_core_field_offset(struct mount, mnt);
    return 0;
  }
  if (!append_name(walk, BPF_CORE_READ(dentry, d_name.name))) return 1;
  struct dentry* parent = BPF_CORE_READ(dentry, d_parent);
  if (parent == dentry || !parent) {
    walk->pseudo = true;
    walk->dentry = NULL;
    return 1;
  }
  walk->dentry = parent;
  return 0;
}

static long kernfs_step(__u64 step, struct walk* walk) {
  struct kernfs_node *node = walk->node, *parent;
  if (bpf_core_field_exists(node->__parent)) {
    parent = BPF_CORE_READ(node, __parent);
  } else {
    parent = BPF_CORE_READ((struct kernfs_node___before_6_15*)node, parent);
  }
  if (!parent) {
    walk->node = NULL;
    return 1;
  }
  if (!append_name(walk, BPF_CORE_READ(node, name))) return 1;
  walk->node = parent;
  return 0;
}

/* Both walks return what they appended, in bytes, and leave `used` behind it. */
static __always_inline __u32 append_path(struct walk* walk, struct dentry* dentry, struct vfsmount* mount) {
  __u32 before = walk->used;
  walk->limit = before + DE_MAX_PATH - DE_MAX_NAME;
  walk->dentry = dentry;
  walk->mount = mount;
  walk->cut = walk->pseudo = false;
  bpf_loop(MAX_WALK_STEPS, path_step, walk, 0);
  if (walk->dentry) walk->cut = true;
  return walk->used - before;
}

static __always_inline __u32 append_kernfs(struct walk* walk, struct kernfs_node* node) {
  __u32 before = walk->used;
  walk->limit = before + DE_MAX_CGROUP - DE_MAX_NAME;
  walk->node = node;
  walk->cut = false;
  bpf_loop(MAX_WALK_STEPS, kernfs_step, walk, 0);
  if (walk->node) walk->cut = true;
  return walk->used - before;
}

static __always_inline struct cgroup* beyond_root(struct cgroup* cgroup) {
  return cgroup && BPF_CORE_READ(cgroup, level) > 0 ? cgroup : NULL;
}

/* The same choice as choose_cgroup() makes from /proc: v2, then named systemd, memory, pids; the first below its root.
 */
static __always_inline struct kernfs_node* chosen_cgroup(struct task_struct* task) {
  struct css_set* set = BPF_CORE_READ(task, cgroups);
  struct cgroup* unified = BPF_CORE_READ(set, dfl_cgrp);
  struct cgroup* chosen = beyond_root(unified);
  if (!chosen) {
    struct list_head* head = (void*)set + bpf_core_field_offset(struct css_set, cgrp_links);
    struct list_head* at = BPF_CORE_READ(set, cgrp_links.next);
    for (int i = 0; i < MAX_HIERARCHIES && at && at != head; i++) {
      struct cgrp_cset_link* link = (void*)at - bpf_core_field_offset(struct cgrp_cset_link, cgrp_link);
      struct cgroup* cgroup = BPF_CORE_READ(link, cgrp);
      char name[8] = {};
      BPF_CORE_READ_STR_INTO(&name, cgroup, root, name);
      if (*(__u64*)name == *(const __u64*)"systemd") chosen = beyond_root(cgroup);
      at = BPF_CORE_READ(at, next);
    }
  }
  if (!chosen && bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id)) {
    chosen =
        beyond_root(BPF_CORE_READ(set, subsys[bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id)], cgroup));
  }
  if (!chosen && bpf_core_enum_value_exists(enum cgroup_subsys_id, pids_cgrp_id)) {
    chosen = beyond_root(BPF_CORE_READ(set, subsys[bpf_core_enum_value(enum cgroup_subsys_id, pids_cgrp_id)], cgroup));
  }
  return BPF_CORE_READ(chosen ? chosen : unified, kn);
}

/* The fixed part, but for what belongs to one kind of record. `leader` leads its thread group. */
static __always_inline void fill_record(struct daemoneye_record* record, struct task_struct* leader, __u8 kind) {
  record->magic = DE_RECORD_MAGIC;
  record->kind = kind;
  record->size = sizeof(*record);
  record->boot_ns = bpf_ktime_get_boot_ns();
  record->pid = BPF_CORE_READ(leader, tgid);
  record->start_ns = BPF_CORE_READ(leader, start_boottime);
  if (BPF_CORE_READ(leader, flags) & PF_KTHREAD) record->flags |= DE_KERNEL_THREAD;

  struct task_struct* parent = BPF_CORE_READ(leader, real_parent);
  record->ppid = BPF_CORE_READ(parent, tgid);
  record->parent_start_ns = BPF_CORE_READ(parent, group_leader, start_boottime);

  const struct cred* cred = BPF_CORE_READ(leader, cred);
  record->uid = BPF_CORE_READ(cred, uid.val);
  record->gid = BPF_CORE_READ(cred, gid.val);
  record->euid = BPF_CORE_READ(cred, euid.val);
  record->egid = BPF_CORE_READ(cred, egid.val);
  record->loginuid = ~0u;
  if (bpf_core_field_exists(leader->loginuid)) record->loginuid = BPF_CORE_READ(leader, loginuid.val);
  record->session = BPF_CORE_READ(leader, signal, pids[PIDTYPE_SID], numbers[0].nr);

  BPF_CORE_READ_STR_INTO(&record->comm, leader, comm);
  struct tty_struct* tty = BPF_CORE_READ(leader, signal, tty);
  if (tty) {
    BPF_CORE_READ_STR_INTO(&record->tty, tty, name);
    record->flags |= DE_HAS_TTY;
  }
}

/* A dead task has given its namespaces up, but for those of its pid and its credentials. */
static __always_inline void fill_namespaces(struct daemoneye_record* record, struct task_struct* task) {
  struct nsproxy* proxy = BPF_CORE_READ(task, nsproxy);
  if (!proxy) return;
  record->flags |= DE_HAS_NAMESPACES;
  record->namespaces[DE_NS_MNT] = BPF_CORE_READ(proxy, mnt_ns, ns.inum);
  record->namespaces[DE_NS_NET] = BPF_CORE_READ(proxy, net_ns, ns.inum);
  record->namespaces[DE_NS_UTS] = BPF_CORE_READ(proxy, uts_ns, ns.inum);
  record->namespaces[DE_NS_IPC] = BPF_CORE_READ(proxy, ipc_ns, ns.inum);
  record->namespaces[DE_NS_CGROUP] = BPF_CORE_READ(proxy, cgroup_ns, ns.inum);
  record->namespaces[DE_NS_USER] = BPF_CORE_READ(task, cred, user_ns, ns.inum);
  struct pid* pid = BPF_CORE_READ(task, thread_pid);
  struct upid innermost = {};
  bpf_probe_read_kernel(&innermost, bpf_core_type_size(struct upid),
                        (void*)pid + bpf_core_field_offset(struct pid, numbers) +
                            BPF_CORE_READ(pid, level) * bpf_core_type_size(struct upid));
  record->namespaces[DE_NS_PID] = BPF_CORE_READ(innermost.ns, ns.inum);
}

static __always_inline __s64 nanoseconds(__s64 seconds, __u32 rest) {
  return seconds * 1000000000 + (rest & ~CTIME_QUERIED);
}

static __always_inline void fill_file(struct daemoneye_record* record, struct inode* inode) {
  record->inode = BPF_CORE_READ(inode, i_ino);
  record->device = BPF_CORE_READ(inode, i_sb, s_dev);
  record->links = BPF_CORE_READ(inode, i_nlink);
  record->file_bytes = BPF_CORE_READ(inode, i_size);
  struct inode___6_7* since_6_7 = (void*)inode;
  struct inode___6_6* since_6_6 = (void*)inode;
  struct inode___before_6_6* before = (void*)inode;
  if (bpf_core_field_exists(inode->i_mtime_sec)) {
    record->mtime_ns = nanoseconds(BPF_CORE_READ(inode, i_mtime_sec), BPF_CORE_READ(inode, i_mtime_nsec));
  } else if (bpf_core_field_exists(since_6_7->__i_mtime)) {
    record->mtime_ns =
        nanoseconds(BPF_CORE_READ(since_6_7, __i_mtime.tv_sec), BPF_CORE_READ(since_6_7, __i_mtime.tv_nsec));
  } else {
    record->mtime_ns = nanoseconds(BPF_CORE_READ(before, i_mtime.tv_sec), BPF_CORE_READ(before, i_mtime.tv_nsec));
  }
  if (bpf_core_field_exists(inode->i_ctime_sec)) {
    record->ctime_ns = nanoseconds(BPF_CORE_READ(inode, i_ctime_sec), BPF_CORE_READ(inode, i_ctime_nsec));
  } else if (bpf_core_field_exists(since_6_6->__i_ctime)) {
    record->ctime_ns =
        nanoseconds(BPF_CORE_READ(since_6_6, __i_ctime.tv_sec), BPF_CORE_READ(since_6_6, __i_ctime.tv_nsec));
  } else {
    record->ctime_ns = nanoseconds(BPF_CORE_READ(before, i_ctime.tv_sec), BPF_CORE_READ(before, i_ctime.tv_nsec));
  }
}

static __always_inline void append_executable(struct daemoneye_record* record, struct walk* walk, struct file* file) {
  struct dentry* dentry = BPF_CORE_READ(file, f_path.dentry);
  fill_file(record, BPF_CORE_READ(file, f_inode));
  if (!BPF_CORE_READ(dentry, d_hash.pprev)) record->flags |= DE_UNLINKED;
  record->lengths[DE_EXECUTABLE] = append_path(walk, dentry, BPF_CORE_READ(file, f_path.mnt));
  record->flags |= DE_HAS_EXECUTABLE;
  if (walk->cut) record->flags |= DE_EXECUTABLE_CUT;
  if (walk->pseudo) record->flags |= DE_PSEUDO_FILE;
}

/* A dead task has given its fs up. */
static __always_inline void append_places(struct daemoneye_record* record, struct walk* walk,
                                          struct task_struct* task) {
  struct fs_struct* fs = BPF_CORE_READ(task, fs);
  if (fs) {
    record->lengths[DE_CWD] = append_path(walk, BPF_CORE_READ(fs, pwd.dentry), BPF_CORE_READ(fs, pwd.mnt));
    record->flags |= DE_HAS_CWD;
    if (walk->cut) record->flags |= DE_CWD_CUT;
  }
  record->lengths[DE_CGROUP] = append_kernfs(walk, chosen_cgroup(task));
  record->flags |= DE_HAS_CGROUP;
  if (walk->cut) record->flags |= DE_CGROUP_CUT;
}
