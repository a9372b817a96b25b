// Processes that make it hard to see them right.
#include <sched.h>
#include <sys/capability.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <thread>

#include "sensor/linux/snapshot_test.h"

namespace daemoneye::sensor {
namespace {

class Hard : public KernelTest {
 protected:
  void SetUp() override {
    KernelTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    auto snapshot = open_bpf_snapshot(options_);
    ASSERT_TRUE(snapshot) << snapshot.error().message;
    snapshot_ = std::move(*snapshot);
  }
  std::unique_ptr<Snapshot> snapshot_;
};

TEST_F(Hard, NamesWithBracketsSpacesAndNewlines) {
  const TempDir folder;
  for (const std::string name : {"(sd-pam)", ") R 1 (", "[kworker-0:1]", " a b ", "a\nb", "\xff\xfe"}) {
    SCOPED_TRACE(name);
    const auto file = folder.path() + "/" + name;
    ASSERT_TRUE(std::filesystem::copy_file("/bin/sleep", file));
    const Sleeper sleeper(file, {name, "1000"});
    const auto seen = wait_for(RawKind::exec, sleeper.pid());
    ASSERT_TRUE(seen);
    const auto found = scan(*snapshot_).at(sleeper.pid());
    for (const auto* process : {&seen->process, &found}) {
      EXPECT_EQ(process->comm, name.substr(0, 15));
      EXPECT_EQ(process->executable_path, file);
      EXPECT_EQ(process->arguments, joined({name, "1000"}));
      EXPECT_FALSE(process->kernel_thread);
    }
    EXPECT_EQ(scan(*snapshot_, Depth::counters).at(sleeper.pid()).comm, name.substr(0, 15));
  }
}

TEST_F(Hard, AnExecutableThatIsReplaced) {
  const TempDir folder;
  const auto file = folder.path() + "/file";
  copy_file("/bin/sleep", file);
  const auto first_file = identity_of(file);
  const Sleeper first(file, {"file", "1000"});
  ASSERT_EQ(::unlink(file.c_str()), 0);
  copy_file("/bin/sleep", file);
  const auto second_file = identity_of(file);
  const Sleeper second(file, {"file", "1000"});
  ASSERT_NE(first_file, second_file);

  const auto exec = wait_for(RawKind::exec, second.pid());
  ASSERT_TRUE(exec);
  EXPECT_EQ(exec->process.file, second_file);
  for (const auto depth : {Depth::full, Depth::counters}) {
    const auto found = scan(*snapshot_, depth);
    const auto &old = found.at(first.pid()), &now = found.at(second.pid());
    EXPECT_EQ(old.executable_state, event::ExecutableState::deleted);
    EXPECT_EQ(old.links, 0U);
    EXPECT_EQ(old.file.inode, first_file.inode);
    EXPECT_EQ(now.executable_state, event::ExecutableState::ok);
    EXPECT_EQ(now.links, 1U);
    EXPECT_EQ(now.file, second_file);
    if (depth == Depth::full) {
      EXPECT_EQ(old.executable_path, file);
      EXPECT_EQ(now.executable_path, file);
    }
  }
}

TEST_F(Hard, AProcessThatUnlinksAndRewritesItself) {
  const TempDir folder;
  const auto file = folder.path() + "/shell";
  copy_file("/bin/dash", file);
  const auto first = identity_of(file);
  // Its second image is another file of the same name.
  const Sleeper sleeper(file, {"shell", "-c", "rm \"$0\"; cp /bin/sleep \"$0\"; exec \"$0\" 1000", file},
                        {file, "1000"});
  ASSERT_TRUE(wait_for([&](const RawEvent& seen) {
    return seen.process.pid == sleeper.pid() && seen.process.arguments == joined({file, "1000"});
  }));
  const auto execs = events_of(RawKind::exec, sleeper.pid());
  ASSERT_EQ(execs.size(), 2U);
  EXPECT_EQ(execs[0].process.file.inode, first.inode);
  EXPECT_EQ(execs[1].process.file, identity_of(file));
  for (const auto& exec : execs) EXPECT_EQ(exec.process.executable_path, file);
}

TEST_F(Hard, ExecutionFromMemoryStaysKnown) {
  const UniqueFd memory(static_cast<int>(::syscall(SYS_memfd_create, "payload", 0)));
  ASSERT_TRUE(memory);
  ASSERT_EQ(
      std::system(
          ("cat /bin/sleep > /proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(memory.get())).c_str()),
      0);
  Child child([&] {
    char name[] = "sleep", time[] = "1000";
    char* arguments[] = {name, time, nullptr};
    char* environment[] = {nullptr};
    ::fexecve(memory.get(), arguments, environment);
    return 127;
  });
  const auto exec = wait_for(RawKind::exec, child.pid());
  ASSERT_TRUE(exec);
  EXPECT_EQ(exec->process.executable_state, event::ExecutableState::memfd);
  EXPECT_EQ(exec->process.links, 0U);
  EXPECT_EQ(exec->process.file, identity_of("/proc/self/fd/" + std::to_string(memory.get())));
  for (const auto depth : {Depth::full, Depth::counters}) {
    const auto found = scan(*snapshot_, depth).at(child.pid());
    EXPECT_EQ(found.executable_state, event::ExecutableState::memfd);
    EXPECT_EQ(found.file, exec->process.file);
  }
}

TEST_F(Hard, VforkAndSpawn) {
  Signpost signpost;
  Child child([&] {
    const pid_t inner = ::vfork();
    if (inner == 0) {
      ::execl("/bin/true", "true", "after-vfork", nullptr);
      ::_exit(127);
    }
    return signpost.reached(inner) ? 0 : 1;
  });
  const auto inner = signpost.wait();
  ASSERT_TRUE(inner);
  const auto pid = static_cast<event::Pid>(*inner);
  ASSERT_TRUE(wait_for(RawKind::exit, pid));
  const auto forks = events_of(RawKind::fork, pid), execs = events_of(RawKind::exec, pid);
  ASSERT_EQ(forks.size(), 1U);
  ASSERT_EQ(execs.size(), 1U);
  EXPECT_EQ(events_of(RawKind::exit, pid).size(), 1U);
  EXPECT_EQ(forks[0].process.ppid, child.pid());
  EXPECT_EQ(execs[0].process.arguments, joined({"true", "after-vfork"}));
  EXPECT_EQ(execs[0].process.start_ticks, forks[0].process.start_ticks);
}

TEST_F(Hard, AProcessThatExecutesDuringTheScan) {
  const TempDir folder;
  for (const auto* name : {"/a", "/b"}) copy_file("/bin/dash", folder.path() + name);
  const auto script = folder.path() + "/script";
  {
    const auto text = "exec " + folder.path() + "/$2 $0 $2 $1\n";
    const UniqueFd file(::open(script.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    ASSERT_EQ(::write(file.get(), text.data(), text.size()), std::ssize(text));
  }
  // Two programs that execute each other for ever, each with its own name as its argument.
  const Child child([&] { return execute(folder.path() + "/a", {folder.path() + "/a", script, "a", "b"}); });
  ASSERT_TRUE(wait_for(RawKind::exec, child.pid()));
  int seen = 0;
  for (int i = 0; i < 300; ++i) {
    const auto found = scan(*snapshot_);
    ASSERT_TRUE(found.contains(child.pid())) << i;
    const auto& process = found.at(child.pid());
    EXPECT_EQ(process.start_ticks, found.at(child.pid()).start_ticks);
    if (!process.executable_path || !process.arguments || process.arguments->empty()) continue;
    const auto name = process.executable_path->substr(process.executable_path->rfind('/') + 1);
    if (name != "a" && name != "b") continue;  // not yet executed for the first time
    // One image or the other, never a mixture; and nothing of the environment behind.
    EXPECT_EQ(*process.arguments, joined({folder.path() + "/" + name, script, name, name == "a" ? "b" : "a"}));
    ++seen;
  }
  EXPECT_GT(seen, 30);
  source_->poll();
  EXPECT_GT(events_of(RawKind::exec, child.pid()).size(), 10U);
}

TEST_F(Hard, ProcessesOfAPidNamespace) {
  Signpost signpost;
  Child child([&] {
    if (::unshare(CLONE_NEWPID) != 0) return 99;
    const pid_t inner = ::fork();  // pid 1 in there
    if (inner == 0) ::_exit(execute("/bin/sleep", {"sleep", "1000"}));
    if (!signpost.reached(inner)) return 98;
    ::waitpid(inner, nullptr, 0);
    return 0;
  });
  const auto value = signpost.wait();
  if (!value) GTEST_SKIP() << "not run: no pid namespace here";
  const auto inner = static_cast<event::Pid>(*value);
  const auto exec = wait_for(RawKind::exec, inner);
  ASSERT_TRUE(exec);
  for (const auto depth : {Depth::full, Depth::counters}) {
    const auto found = scan(*snapshot_, depth).at(inner);
    EXPECT_EQ(found.ppid, child.pid());
    EXPECT_EQ(found.start_ticks, exec->process.start_ticks);
    EXPECT_EQ(found.comm, "sleep");
    if (depth == Depth::counters) continue;
    EXPECT_EQ(found.namespaces, namespaces_of(inner));
    EXPECT_NE(found.namespaces->pid, namespace_of(child.pid(), "pid"));
  }
  ::kill(static_cast<pid_t>(inner), SIGKILL);
}

// Paths are those of the mount namespace, from its root: a chroot shows where it leads, a bind mount is named by where
// it was mounted, and after pivot_root the new root is the root.
TEST_F(Hard, PathsThroughMounts) {
  const TempDir folder;
  const auto root = folder.path();
  const auto as_if = [](const std::string& path) { return path + "/inside/sleep"; };
  enum { chroot_, bind_, pivot_ };
  for (const int how : {chroot_, bind_, pivot_}) {
    SCOPED_TRACE(how);
    Signpost signpost;
    Child child([&] {
      if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return 99;
      if (::mount("t", root.c_str(), "tmpfs", 0, nullptr) != 0) return 99;
      if (std::system(("mkdir -p " + root + "/inside " + root + "/bound " + root + "/old && cp /bin/busybox " +
                       as_if(root) + " 2>/dev/null || cp /bin/sleep " + as_if(root) + "; mkdir -p " + root + "/usr " +
                       root + "/lib " + root + "/lib64")
                          .c_str()) != 0) {
        return 99;
      }
      for (const std::string part : {"/lib", "/lib64", "/usr"}) {
        if (::mount(part.c_str(), (root + part).c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0) return 99;
      }
      std::string file = as_if("");
      if (how == chroot_ && (::chroot(root.c_str()) != 0 || ::chdir("/inside") != 0)) return 99;
      if (how == bind_) {
        const auto inside = root + "/inside", bound = root + "/bound";
        if (::mount(inside.c_str(), bound.c_str(), nullptr, MS_BIND, nullptr) != 0) return 99;
        if (::chdir(bound.c_str()) != 0) return 99;
        file = bound + "/sleep";
      }
      if (how == pivot_ &&
          (::syscall(SYS_pivot_root, root.c_str(), (root + "/old").c_str()) != 0 || ::chdir("/inside") != 0)) {
        return 99;
      }
      if (!signpost.reached()) return 98;
      return execute(file, {"sleep", "1000"});
    });
    if (!signpost.wait()) GTEST_SKIP() << "not run: no mount namespace here";
    const auto exec = wait_for(RawKind::exec, child.pid());
    ASSERT_TRUE(exec);
    const auto expected = how == chroot_ ? root + "/inside" : how == bind_ ? root + "/bound" : "/inside";
    const auto found = scan(*snapshot_).at(child.pid());
    for (const auto* process : {&exec->process, &found}) {
      EXPECT_EQ(process->executable_path, expected + "/sleep");
      EXPECT_EQ(process->cwd, expected);
      EXPECT_EQ(process->executable_state, event::ExecutableState::ok);
    }
    EXPECT_EQ(found.file, identity_of("/proc/" + std::to_string(child.pid()) + "/exe"));
  }
}

TEST_F(Hard, CountersAgreeWithTheFullScan) {
  const Sleeper sleeper;
  const Stopped stopped({"x"});
  Signpost signpost;
  const Child threads([&] {
    std::jthread other([&] {
      if (signpost.reached()) ::pause();
    });
    return ::pause();
  });
  ASSERT_TRUE(signpost.wait());
  const auto full = scan(*snapshot_), counters = scan(*snapshot_, Depth::counters);
  std::size_t compared = 0;
  for (const auto& [pid, process] : counters) {
    const auto at = full.find(pid);
    if (at == full.end() || at->second.start_ticks != process.start_ticks || at->second.comm != process.comm) continue;
    if (!process.counters_only) continue;  // what the iterator hides comes from /proc, in full
    SCOPED_TRACE(process.comm + " " + std::to_string(pid));
    EXPECT_EQ(process.ppid, at->second.ppid);
    EXPECT_EQ(process.parent_start_ticks, at->second.parent_start_ticks);
    EXPECT_EQ(process.uid, at->second.uid);
    EXPECT_EQ(process.egid, at->second.egid);
    EXPECT_EQ(process.loginuid, at->second.loginuid);
    EXPECT_EQ(process.session_id, at->second.session_id);
    EXPECT_EQ(process.tty, at->second.tty);
    EXPECT_EQ(process.kernel_thread, at->second.kernel_thread);
    EXPECT_EQ(process.file, at->second.file);
    EXPECT_EQ(process.links, at->second.links);
    EXPECT_EQ(process.executable_state, at->second.executable_state);
    EXPECT_EQ(process.arguments, std::nullopt);
    EXPECT_EQ(process.cwd, std::nullopt);
    EXPECT_EQ(process.cgroup, std::nullopt);
    ++compared;
  }
  EXPECT_GT(compared, 10U);
  for (const auto pid : {sleeper.pid(), stopped.pid(), threads.pid()}) {
    ASSERT_TRUE(counters.contains(pid) && full.contains(pid));
    EXPECT_EQ(counters.at(pid).resident_bytes, full.at(pid).resident_bytes);
    EXPECT_EQ(counters.at(pid).cpu_ticks, full.at(pid).cpu_ticks);
    EXPECT_EQ(counters.at(pid).status, full.at(pid).status);
  }
}

TEST_F(Hard, EveryScanFindsWhatTheIteratorHides) {
  // Listing /proc is left out while the numbers agree; nobody may be missing because of that.
  auto reader = ProcReader::open("/proc");
  ASSERT_TRUE(reader);
  std::vector<event::Pid> before, after;
  for (int i = 0; i < 20; ++i) {
    const Sleeper newcomer;
    ASSERT_TRUE(reader->list(before));
    const auto found = scan(*snapshot_, i % 3 == 0 ? Depth::full : Depth::counters);
    ASSERT_TRUE(reader->list(after));
    for (const auto pid : before) {
      if (std::ranges::binary_search(after, pid)) {
        EXPECT_TRUE(found.contains(pid)) << pid;
      }
    }
  }
}

// The same through reads that are calls, as kernels before 6.2 need them.
class WithoutCasts : public Hard {
 protected:
  WithoutCasts() {
    options_.casts = false;
    options_.sleepable = false;
  }
};

TEST_F(WithoutCasts, SeesTheSame) {
  const Sleeper sleeper;
  const auto exec = wait_for(RawKind::exec, sleeper.pid());
  ASSERT_TRUE(exec);
  auto other = open_bpf_snapshot();
  ASSERT_TRUE(other);
  const auto plain = scan(*snapshot_).at(sleeper.pid()), usual = scan(**other).at(sleeper.pid());
  for (const auto* process : {&exec->process, &plain, &usual}) {
    EXPECT_EQ(process->executable_path, "/usr/bin/sleep");
    EXPECT_EQ(process->arguments, joined({"sleep", "1000"}));
    EXPECT_EQ(process->cwd, current_folder());
    EXPECT_EQ(process->cgroup, usual.cgroup);
    EXPECT_EQ(process->file, usual.file);
  }
  EXPECT_EQ(scan(*snapshot_, Depth::counters).at(sleeper.pid()).file, usual.file);
}

// Only what eBPF needs: no other capability, and not root.
bool keep_two_capabilities() {
  if (::prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0) return false;
  if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0) return false;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct kept[2] = {};
  for (const int capability : {CAP_BPF, CAP_PERFMON}) {
    kept[CAP_TO_INDEX(capability)].effective |= CAP_TO_MASK(capability);
    kept[CAP_TO_INDEX(capability)].permitted |= CAP_TO_MASK(capability);
  }
  return ::syscall(SYS_capset, &header, kept) == 0;
}

TEST_F(Hard, TwoCapabilitiesAreEnough) {
  const Sleeper sleeper;
  Child child([&] {
    if (!keep_two_capabilities()) return 2;
    auto source = open_bpf_source(1 << 20);
    auto snapshot = open_bpf_snapshot();
    auto loop = EventLoop::create();
    if (!source || !snapshot || !loop) return 3;
    bool found = false;
    const auto scanned = (*snapshot)->scan(Depth::full, [&](const RawProcess& process) {
      if (process.pid == sleeper.pid()) {
        found = process.executable_path == "/usr/bin/sleep" && process.arguments == joined({"sleep", "1000"});
      }
    });
    if (!scanned || !found) return 4;
    bool exec = false;
    const Child inner([] { return execute("/bin/true", {"true", "by-two"}); });
    const auto started = (*source)->start(
        **loop,
        [&](const RawEvent& seen) {
          if (seen.process.pid != inner.pid() || seen.kind != RawKind::exec) return;
          exec = seen.process.arguments == joined({"true", "by-two"});
          (*loop)->stop();
        },
        [](const Error&) {});
    if (!started || !(*loop)->add_timer(kPatience, std::chrono::nanoseconds(0), [&] { (*loop)->stop(); })) return 5;
    (*loop)->run();
    (*source)->stop();
    return exec ? 0 : 6;
  });
  EXPECT_EQ(WEXITSTATUS(child.wait()), 0);
}

class Failing : public KernelTest {
 protected:
  Failing() {
    failing_ = true;
    options_.read_error = [this] { return ++reads_ < 3 ? 0 : EIO; };
  }
  int reads_ = 0;
};

TEST_F(Failing, SaysOnceThatTheRingCannotBeReadAndStops) {
  const auto timer = loop_->add_timer(kPatience, std::chrono::nanoseconds(0), [this] { loop_->stop(); });
  loop_->run();
  ASSERT_EQ(failures_.size(), 1U);
  EXPECT_NE(failures_[0].find("reading the eBPF ring buffer"), std::string::npos) << failures_[0];
  source_->poll();
  EXPECT_EQ(reads_, 3);
  EXPECT_EQ(failures_.size(), 1U);
  (void)source_->counters();
  if (timer) loop_->remove_timer(*timer);
}

// Who asks after poll() learns it before on_failure says so, in the loop's next turn: no claim may come between.
TEST_F(Failing, IsKnownAtOnceToHaveFailed) {
  source_->poll();
  EXPECT_EQ(source_->failed(), reads_ >= 3);
  while (reads_ < 3) {
    EXPECT_FALSE(source_->failed());
    source_->poll();
  }
  EXPECT_TRUE(source_->failed());
  EXPECT_TRUE(failures_.empty());
}

TEST_F(Failing, MayBeDestroyedInAnswer) {
  source_.reset();
  auto source = open_bpf_source(BpfOptions{.ring_bytes = 4096, .read_error = [] { return EIO; }});
  ASSERT_TRUE(source);
  source_ = std::move(*source);
  ASSERT_TRUE(source_->start(
      *loop_, [](const RawEvent&) {},
      [this](const Error&) {
        source_.reset();
        loop_->stop();
      }));
  const auto timer = loop_->add_timer(kPatience, std::chrono::nanoseconds(0), [this] { loop_->stop(); });
  loop_->run();
  EXPECT_EQ(source_, nullptr);
  if (timer) loop_->remove_timer(*timer);
}

}  // namespace
}  // namespace daemoneye::sensor
