// Plays a process of ours that somebody else controls: after exactly the plan of production it tries what it must not
// be able to do. Each attempt has its name here, and each must fail; a few that must go on working show that the
// attempts fail for the right reason.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>

#include "base/file.h"
#include "base/text.h"
#include "base/unique_fd.h"
#include "sandbox/plans.h"

namespace daemoneye::sandbox {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* unprivileged = "nobody";

#define NEEDS_ROOT() \
  if (::geteuid() != 0) GTEST_SKIP() << "needs root: only root can go through the plan of production"

// What the attempts need to know, made while privileged.
struct Target {
  std::string folder;          // of this test, open to everyone
  std::string ledger_folder;   // of the taken-over process
  std::string open_file;       // anybody may read it
  std::string agent_database;  // its group may read it
  std::string private_file;    // of another user
  pid_t same_user = 0;         // a process of the user that is taken over
  pid_t other_user = 0;
  std::uint64_t remote_address = 0;  // of readable memory in `same_user`
  UniqueFd bound_socket;             // could be listened on
  UniqueFd opened_folder;            // on the file system of `handle`
  std::array<UniqueFd, 2> ends;      // of a local connection; a descriptor waits in the first one
  // Of `private_file`: a file_handle, which the kernel wants writable.
  alignas(file_handle) mutable std::array<char, sizeof(file_handle) + MAX_HANDLE_SZ> handle{};
  [[nodiscard]] file_handle* handle_header() const { return reinterpret_cast<file_handle*>(handle.data()); }
};

using Attempts = std::vector<std::pair<std::string, std::function<long(const Target&)>>>;

constexpr char readable_memory[] = "memory of another process";

long opened(const std::string& path, int flags) { return ::open(path.c_str(), flags | O_CLOEXEC, 0600); }

// A connection that would be under way has gone out, too.
long connected(int family, int type) {
  const int socket = ::socket(family, type | SOCK_CLOEXEC, 0);
  if (socket < 0) return -1;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(9);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return ::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

long read_remote(pid_t pid, std::uint64_t address) {
  std::array<char, 8> bytes{};
  iovec here{bytes.data(), bytes.size()};
  iovec there{reinterpret_cast<void*>(address), bytes.size()};
  return ::process_vm_readv(pid, &here, 1, &there, 1, 0);
}

// Any way to the bytes counts, also one by one from the beginning.
long read_memory_file(pid_t pid, std::uint64_t address) {
  const UniqueFd file(::open(("/proc/" + std::to_string(pid) + "/mem").c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return -1;
  std::array<char, 8> bytes{};
  if (::pread(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(address)) > 0) return 1;
  if (::lseek(file.get(), static_cast<off_t>(address), SEEK_SET) >= 0 &&
      ::read(file.get(), bytes.data(), bytes.size()) > 0) {
    return 1;
  }
  iovec part{bytes.data(), bytes.size()};
  if (::preadv(file.get(), &part, 1, static_cast<off_t>(address)) > 0) return 1;
  off_t from = static_cast<off_t>(address);
  if (::syscall(SYS_copy_file_range, file.get(), &from, STDOUT_FILENO, nullptr, 8, 0) > 0) return 1;
  return ::read(file.get(), bytes.data(), bytes.size());
}

long executed() {
  const pid_t child = ::fork();
  if (child < 0) {
    char program[] = "/bin/true";
    char* arguments[] = {program, nullptr};
    return ::execv(program, arguments);  // does not come back when it works: the parent then misses the report
  }
  if (child == 0) {
    ::execl("/bin/true", "true", nullptr);
    ::_exit(127);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 1 : -1;
}

long bpf(int command, bpf_attr& attributes) { return ::syscall(SYS_bpf, command, &attributes, sizeof attributes); }

long loads_bpf_program() {
  // r0 = 0; exit
  std::array<bpf_insn, 2> program{};
  program[0] = {.code = BPF_ALU64 | 0xb0, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0};
  program[1] = {.code = BPF_JMP | 0x90, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0};
  bpf_attr attributes{};
  attributes.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
  attributes.insns = reinterpret_cast<std::uint64_t>(program.data());
  attributes.insn_cnt = program.size();
  attributes.license = reinterpret_cast<std::uint64_t>("GPL");
  return bpf(BPF_PROG_LOAD, attributes);
}

long makes_bpf_map() {
  bpf_attr attributes{};
  attributes.map_type = BPF_MAP_TYPE_ARRAY;
  attributes.key_size = attributes.value_size = 4;
  attributes.max_entries = 1;
  return bpf(BPF_MAP_CREATE, attributes);
}

long passes_descriptor(int socket) {
  char byte = 0;
  iovec part{&byte, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  auto* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  const int passed = STDERR_FILENO;
  std::memcpy(CMSG_DATA(header), &passed, sizeof passed);
  return ::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

long takes_descriptor(int socket) {
  char byte = 0;
  iovec part{&byte, 1};
  std::array<char, 64> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  return ::recvmsg(socket, &message, MSG_DONTWAIT);
}

long locks(const std::string& path, int command) {
  const UniqueFd file(static_cast<int>(opened(path, O_RDONLY)));
  struct flock range{};
  range.l_type = F_RDLCK;
  return ::fcntl(file.get(), command, &range);
}

long executable_memory() {
  void* memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory != MAP_FAILED) return 1;
  memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? -1 : ::mprotect(memory, 4096, PROT_READ | PROT_EXEC);
}

// What neither of the two may do.
Attempts common_attempts() {
  return {
      {"IPv4 socket", [](const Target&) { return ::socket(AF_INET, SOCK_STREAM, 0); }},
      {"IPv4 datagram socket", [](const Target&) { return ::socket(AF_INET, SOCK_DGRAM, 0); }},
      {"IPv6 socket", [](const Target&) { return ::socket(AF_INET6, SOCK_STREAM, 0); }},
      {"netlink socket", [](const Target&) { return ::socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE); }},
      {"packet socket", [](const Target&) { return ::socket(AF_PACKET, SOCK_RAW, 0); }},
      {"vsock socket", [](const Target&) { return ::socket(AF_VSOCK, SOCK_STREAM, 0); }},
      {"connect out", [](const Target&) { return connected(AF_INET, SOCK_STREAM); }},
      {"listen", [](const Target& t) { return ::listen(t.bound_socket.get(), 1); }},
      {"write to /tmp", [](const Target&) { return opened("/tmp/daemoneye-taken-over", O_WRONLY | O_CREAT); }},
      {"write another user's file", [](const Target& t) { return opened(t.open_file, O_WRONLY); }},
      {"append to it", [](const Target& t) { return opened(t.open_file, O_WRONLY | O_APPEND); }},
      {"truncate it", [](const Target& t) { return ::truncate(t.open_file.c_str(), 0); }},
      {"unnamed temporary file", [](const Target& t) { return opened(t.folder, O_TMPFILE | O_RDWR); }},
      {"create in an open folder", [](const Target& t) { return opened(t.folder + "/new", O_RDWR | O_CREAT); }},
      {"make a folder", [](const Target& t) { return ::mkdir((t.folder + "/made").c_str(), 0700); }},
      {"symbolic link", [](const Target& t) { return ::symlink("/etc/shadow", (t.folder + "/link").c_str()); }},
      {"hard link", [](const Target& t) { return ::link(t.open_file.c_str(), (t.folder + "/hard").c_str()); }},
      {"rename", [](const Target& t) { return ::rename(t.open_file.c_str(), (t.folder + "/renamed").c_str()); }},
      {"unlink", [](const Target& t) { return ::unlink(t.open_file.c_str()); }},
      {"device node", [](const Target& t) { return ::mknod((t.folder + "/node").c_str(), S_IFCHR | 0600, 0x103); }},
      {"execute a program", [](const Target&) { return executed(); }},
      {"execute from memory", [](const Target&) { return ::syscall(SYS_memfd_create, "x", 0); }},
      {"executable memory", [](const Target&) { return executable_memory(); }},
      {"fork",
       [](const Target&) -> long {
         const pid_t child = ::fork();
         if (child == 0) ::_exit(0);
         return child;
       }},
      {"ptrace a process of the same user",
       [](const Target& t) { return ::ptrace(PTRACE_ATTACH, t.same_user, nullptr, nullptr); }},
      {"ptrace seize another user's", [](const Target& t) { return ::ptrace(PTRACE_SEIZE, t.other_user, nullptr, 0); }},
      {"process_vm_readv", [](const Target& t) { return read_remote(t.same_user, t.remote_address); }},
      {"/proc/PID/mem of the same user",
       [](const Target& t) { return read_memory_file(t.same_user, t.remote_address); }},
      {"/proc/PID/mem of another user",
       [](const Target& t) { return read_memory_file(t.other_user, t.remote_address); }},
      {"write /proc/PID/mem",
       [](const Target& t) { return opened("/proc/" + std::to_string(t.same_user) + "/mem", O_RDWR); }},
      {"write its own /proc/self/mem", [](const Target&) { return opened("/proc/self/mem", O_RDWR); }},
      {"pidfd_getfd",
       [](const Target& t) {
         const auto process = ::syscall(SYS_pidfd_open, t.same_user, 0);
         return process < 0 ? -1L : ::syscall(SYS_pidfd_getfd, process, 0, 0);
       }},
      {"signal a process of the same user", [](const Target& t) { return ::kill(t.same_user, 0); }},
      {"kill another user's process", [](const Target& t) { return ::kill(t.other_user, SIGKILL); }},
      {"signal every process", [](const Target&) { return ::kill(-1, 0); }},
      {"tgkill", [](const Target& t) { return ::syscall(SYS_tgkill, t.same_user, t.same_user, 0); }},
      {"queue a signal",
       [](const Target& t) {
         siginfo_t info{};
         info.si_code = SI_QUEUE;
         return ::syscall(SYS_rt_sigqueueinfo, t.same_user, SIGTERM, &info);
       }},
      {"signals by F_SETOWN", [](const Target& t) { return ::fcntl(STDERR_FILENO, F_SETOWN, t.same_user); }},
      {"setuid", [](const Target&) { return ::setuid(0); }},
      {"setresuid", [](const Target&) { return ::setresuid(0, 0, 0); }},
      {"setgid", [](const Target&) { return ::setgid(0); }},
      {"setgroups", [](const Target&) { return ::syscall(SYS_setgroups, 0, nullptr); }},
      {"ambient capability", [](const Target&) { return ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 21, 0, 0); }},
      {"become dumpable", [](const Target&) { return ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); }},
      {"mount", [](const Target&) { return ::mount("none", "/mnt", "tmpfs", 0, nullptr); }},
      {"bind mount", [](const Target&) { return ::mount("/etc", "/mnt", nullptr, MS_BIND, nullptr); }},
      {"new user namespace", [](const Target&) { return ::unshare(CLONE_NEWUSER); }},
      {"new mount namespace", [](const Target&) { return ::unshare(CLONE_NEWNS); }},
      {"another's namespace",
       [](const Target& t) {
         const auto there = opened("/proc/" + std::to_string(t.other_user) + "/ns/net", O_RDONLY);
         return there < 0 ? -1L : ::setns(static_cast<int>(there), CLONE_NEWNET);
       }},
      {"chroot", [](const Target&) { return ::chroot("/proc"); }},
      {"pivot_root", [](const Target&) { return ::syscall(SYS_pivot_root, ".", "."); }},
      {"load a bpf program", [](const Target&) { return loads_bpf_program(); }},
      {"make a bpf map", [](const Target&) { return makes_bpf_map(); }},
      {"load a module", [](const Target&) { return ::syscall(SYS_finit_module, 0, "", 0); }},
      {"kexec", [](const Target&) { return ::syscall(SYS_kexec_load, 0, 0, nullptr, 0); }},
      {"open by handle",
       [](const Target& t) { return ::open_by_handle_at(t.opened_folder.get(), t.handle_header(), O_RDONLY); }},
      {"userfaultfd", [](const Target&) { return ::syscall(SYS_userfaultfd, 0); }},
      {"io_uring",
       [](const Target&) {
         std::array<char, 256> parameters{};
         return ::syscall(SYS_io_uring_setup, 1, parameters.data());
       }},
      {"keyring", [](const Target&) { return ::syscall(SYS_keyctl, 0, -3, 1); }},
      {"perf event",
       [](const Target&) {
         std::array<char, 128> attributes{};
         return ::syscall(SYS_perf_event_open, attributes.data(), 0, -1, -1, 0);
       }},
      {"fanotify", [](const Target&) { return ::syscall(SYS_fanotify_init, 0, 0); }},
      {"raise a limit",
       [](const Target&) {
         const std::array<std::uint64_t, 2> limit{64, 64};
         return ::syscall(SYS_prlimit64, 0, 7, limit.data(), nullptr);
       }},
      {"priority of another", [](const Target& t) { return ::syscall(SYS_setpriority, 0, t.same_user, 1); }},
      {"set the clock",
       [](const Target&) {
         timespec now{};
         return ::clock_settime(CLOCK_REALTIME, &now);
       }},
  };
}

Attempts collector_attempts() {
  auto attempts = common_attempts();
  const Attempts more{
      {"read /etc/shadow", [](const Target&) { return opened("/etc/shadow", O_RDONLY); }},
      {"read another user's private file", [](const Target& t) { return opened(t.private_file, O_RDONLY); }},
      {"read a file that anybody may read", [](const Target& t) { return opened(t.open_file, O_RDONLY); }},
      {"read the agent's database", [](const Target& t) { return opened(t.agent_database, O_RDONLY); }},
      {"list /", [](const Target&) { return opened("/", O_RDONLY | O_DIRECTORY); }},
      {"list /etc", [](const Target&) { return opened("/etc", O_RDONLY | O_DIRECTORY); }},
      {"read a device", [](const Target&) { return opened("/dev/null", O_RDONLY); }},
      {"executable of another user's process",
       [](const Target& t) { return opened("/proc/" + std::to_string(t.other_user) + "/exe", O_RDONLY); }},
      {"root folder of another process",
       [](const Target& t) {
         return opened("/proc/" + std::to_string(t.same_user) + "/root/etc", O_RDONLY | O_DIRECTORY);
       }},
      {"move a file out of the ledger's folder",
       [](const Target& t) {
         const auto inside = t.ledger_folder + "/moved";
         if (opened(inside, O_WRONLY | O_CREAT) < 0) return -1;
         return ::rename(inside.c_str(), (t.folder + "/moved").c_str());
       }},
      {"bind a socket",
       [](const Target& t) {
         const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
         sockaddr_un address{};
         address.sun_family = AF_UNIX;
         (t.ledger_folder + "/socket").copy(address.sun_path, sizeof address.sun_path - 1);
         return socket < 0 ? -1 : ::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address);
       }},
  };
  attempts.insert(attempts.end(), more.begin(), more.end());
  return attempts;
}

Attempts helper_attempts() {
  auto attempts = common_attempts();
  const Attempts more{
      {"local socket", [](const Target&) { return ::socket(AF_UNIX, SOCK_STREAM, 0); }},
      {"socket pair",
       [](const Target&) {
         std::array<int, 2> ends{};
         return ::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data());
       }},
      {"pass a descriptor on", [](const Target& t) { return passes_descriptor(t.ends[0].get()); }},
      {"take a descriptor", [](const Target& t) { return takes_descriptor(t.ends[0].get()); }},
      {"lock a file", [](const Target& t) { return locks(t.open_file, F_SETLK); }},
      {"lock a file by its description", [](const Target& t) { return locks(t.open_file, F_OFD_SETLK); }},
      {"lock a whole file",
       [](const Target& t) {
         const UniqueFd file(static_cast<int>(opened(t.open_file, O_RDONLY)));
         return ::flock(file.get(), LOCK_SH | LOCK_NB);
       }},
      {"write in the ledger's folder",
       [](const Target& t) { return opened(t.ledger_folder + "/planted", O_WRONLY | O_CREAT); }},
      {"map a file",
       [](const Target&) {
         const UniqueFd file(::open("/bin/true", O_RDONLY | O_CLOEXEC));
         return ::mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, file.get(), 4096) == MAP_FAILED ? -1 : 1;
       }},
      {"map an executable file",
       [](const Target&) {
         const UniqueFd file(::open("/bin/true", O_RDONLY | O_CLOEXEC));
         return ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file.get(), 0) == MAP_FAILED ? -1 : 1;
       }},
  };
  attempts.insert(attempts.end(), more.begin(), more.end());
  return attempts;
}

pid_t start_sleeper(uid_t uid) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setresuid(uid, uid, uid) != 0) ::_exit(1);
    ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);  // so that it is protected by nothing but what is tested
    ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    for (;;) ::pause();
  }
  return child;
}

class TakenOver : public ::testing::Test {
 protected:
  void SetUp() override {
    NEEDS_ROOT();
    std::string name = "/var/tmp/daemoneye-takeover-XXXXXX";
    target_.folder = ::mkdtemp(name.data());
    ASSERT_EQ(::chmod(target_.folder.c_str(), 0777), 0);
    const auto user = find_user(unprivileged);
    ASSERT_TRUE(user);
    target_.ledger_folder = target_.folder + "/ledger";
    ASSERT_TRUE(prepare_folder(target_.ledger_folder, unprivileged, "", 0750));
    target_.open_file = target_.folder + "/open";
    ASSERT_TRUE(base::write_file_atomic(target_.open_file, "open", 0644));
    target_.private_file = target_.folder + "/private";
    ASSERT_TRUE(base::write_file_atomic(target_.private_file, "private", 0600));
    target_.agent_database = target_.folder + "/events.redb";
    ASSERT_TRUE(base::write_file_atomic(target_.agent_database, "events", 0640));
    ASSERT_EQ(::chown(target_.agent_database.c_str(), 1, user->gid), 0);
    target_.same_user = start_sleeper(user->uid);
    target_.other_user = start_sleeper(1);
    target_.remote_address = reinterpret_cast<std::uint64_t>(&readable_memory[0]);
    target_.bound_socket.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr any_name{.sa_family = AF_UNIX, .sa_data = {}};
    ASSERT_EQ(::bind(target_.bound_socket.get(), &any_name, sizeof any_name.sa_family), 0);
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    for (const std::size_t i : {0U, 1U}) target_.ends[i].reset(ends[i]);
    ASSERT_EQ(passes_descriptor(target_.ends[1].get()), 1);
    target_.opened_folder.reset(::open(target_.folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    target_.handle_header()->handle_bytes = MAX_HANDLE_SZ;
    int mount = 0;
    // Not every file system gives handles: the attempt then says nothing here.
    handles_ = ::name_to_handle_at(AT_FDCWD, target_.private_file.c_str(), target_.handle_header(), &mount, 0) == 0;
    ASSERT_GT(read_remote(target_.same_user, target_.remote_address), 0) << "the address is readable there";
  }
  void TearDown() override {
    for (const pid_t pid : {target_.same_user, target_.other_user}) {
      if (pid <= 0) continue;
      EXPECT_EQ(::waitpid(pid, nullptr, WNOHANG), 0) << "it lives: no signal reached it";
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
    }
    std::error_code ignored;
    if (!target_.folder.empty()) std::filesystem::remove_all(target_.folder, ignored);
  }

  // Confines a child, and gives what worked there, and what `also` says. The report goes through a pipe made before.
  struct Outcome {
    std::vector<std::string> worked;
    std::string also;
  };
  Outcome play(const std::function<Result<void>()>& confine, const Attempts& attempts,
               const std::function<std::string()>& also) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return {{"pipe2 failed"}, ""};
    const UniqueFd reader(ends[0]);
    UniqueFd writer(ends[1]);
    const pid_t child = ::fork();
    if (child == 0) {
      std::string report;
      if (const auto confined = confine(); !confined) {
        report = "confine failed: " + confined.error().message + "\n";
      } else {
        for (const auto& [name, attempt] : attempts) {
          if (attempt(target_) >= 0) report += name + "\n";
        }
        report += "=" + also();
      }
      (void)base::write_all(writer.get(), report);
      ::_exit(0);
    }
    writer.reset();
    const auto report = base::read_up_to(reader.get(), 64 * 1024).value_or("unreadable");
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status)) << "ended by signal " << WTERMSIG(status);
    Outcome outcome;
    const auto end = report.find('=');
    EXPECT_NE(end, std::string::npos) << report;
    if (end == std::string::npos) return {{report}, ""};
    for (const auto line : base::split(std::string_view(report).substr(0, end), '\n')) {
      if (!line.empty()) outcome.worked.emplace_back(line);
    }
    outcome.also = report.substr(end + 1);
    return outcome;
  }

  Result<void> as_collector(OnViolation on_violation) const {
    auto plan = collector_plan({.user = unprivileged, .ledger_folder = target_.ledger_folder});
    plan.on_violation = on_violation;
    DE_CHECK(drop_privileges(plan));
    return {};
  }
  Result<void> as_helper(OnViolation on_violation) const {
    DE_CHECK(drop_privileges(hasher_plan(unprivileged)));
    return restrict_system_calls(SystemCalls::hasher, on_violation);
  }

  Target target_;
  bool handles_ = false;
};

TEST_F(TakenOver, ProcmondCanDoNothingButItsWork) {
  const auto outcome = play([&] { return as_collector(OnViolation::deny); }, collector_attempts(),
                            [&] {
                              std::string works;
                              const auto note = [&](const char* what, bool fine) {
                                works += std::string(fine ? "+" : "-") + what + " ";
                              };
                              note("proc", opened("/proc/1/stat", O_RDONLY) >= 0);
                              note("list", opened("/proc", O_RDONLY | O_DIRECTORY) >= 0);
                              note("passwd", opened("/etc/passwd", O_RDONLY) >= 0);
                              note("ledger", opened(target_.ledger_folder + "/audit.redb", O_RDWR | O_CREAT) >= 0);
                              note("local", ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0);
                              return works;
                            });
  EXPECT_THAT(outcome.worked, IsEmpty());
  EXPECT_EQ(outcome.also, "+proc +list +passwd +ledger +local ");
}

TEST_F(TakenOver, HelperReadsFilesAndNothingElse) {
  const auto outcome = play([&] { return as_helper(OnViolation::deny); }, helper_attempts(),
                            [&] {
                              std::string works;
                              const auto note = [&](const char* what, long answer) {
                                works += std::string(answer >= 0 ? "+" : "-") + what + " ";
                              };
                              note("private", opened(target_.private_file, O_RDONLY));
                              const int exe = ::open(("/proc/" + std::to_string(target_.other_user) + "/exe").c_str(),
                                                     O_RDONLY | O_CLOEXEC);
                              note("exe", exe);
                              std::array<char, 16> bytes{};
                              note("read", ::read(exe, bytes.data(), bytes.size()) > 0 ? 0 : -1);
                              return works;
                            });
  EXPECT_THAT(outcome.worked, IsEmpty());
  EXPECT_EQ(outcome.also, "+private +exe +read ");
}

TEST_F(TakenOver, AttemptsWouldWorkForRootSoThatTheirFailureMeansSomething) {
  // Those that break nothing on this machine and need no kernel option.
  Attempts harmless = collector_attempts();
  for (auto& attempt : helper_attempts()) harmless.push_back(std::move(attempt));
  std::vector<std::string> tried{"IPv4 socket",
                                 "listen",
                                 "IPv6 socket",
                                 "netlink socket",
                                 "packet socket",
                                 "execute a program",
                                 "execute from memory",
                                 "executable memory",
                                 "fork",
                                 "process_vm_readv",
                                 "/proc/PID/mem of the same user",
                                 "write /proc/PID/mem",
                                 "signal a process of the same user",
                                 "tgkill",
                                 "new mount namespace",
                                 "load a bpf program",
                                 "make a bpf map",
                                 "read /etc/shadow",
                                 "read another user's private file",
                                 "read the agent's database",
                                 "list /",
                                 "bind a socket",
                                 "local socket",
                                 "socket pair",
                                 "create in an open folder",
                                 "hard link",
                                 "map an executable file",
                                 "pass a descriptor on",
                                 "take a descriptor",
                                 "lock a file",
                                 "lock a file by its description",
                                 "lock a whole file"};
  tried.emplace_back("map a file");
  if (handles_) tried.emplace_back("open by handle");
  std::erase_if(harmless, [&](const auto& attempt) { return std::ranges::find(tried, attempt.first) == tried.end(); });
  const auto outcome = play([]() -> Result<void> { return {}; }, harmless, [] { return ""; });
  for (const auto& name : tried) EXPECT_THAT(outcome.worked, Contains(name));
}

TEST_F(TakenOver, RefusedCallsAreCountedByName) {
  const auto outcome = play([&] { return as_collector(OnViolation::deny); }, {},
                            [] {
                              for (int i = 0; i < 3; ++i) (void)::unshare(CLONE_NEWUSER);
                              errno = 0;
                              const bool refused = ::socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == EPERM;
                              std::string text = refused ? "EPERM" : "?";
                              for (const auto& [name, count] : refused_system_calls(SystemCalls::collector))
                                text += " " + name + "=" + std::to_string(count);
                              return text;
                            });
  EXPECT_EQ(outcome.also, "EPERM socket=1 unshare=3");
}

TEST_F(TakenOver, RefusalsOfAForkedHelperAreSeenByWhoForkedIt) {
  const auto outcome = play([] { return Result<void>{}; }, {},
                            [&]() -> std::string {
                              share_refusal_counts();
                              const pid_t helper = ::fork();
                              if (helper == 0) {
                                if (as_helper(OnViolation::deny)) (void)::socket(AF_UNIX, SOCK_STREAM, 0);
                                ::_exit(0);
                              }
                              ::waitpid(helper, nullptr, 0);
                              if (const auto confined = as_collector(OnViolation::deny); !confined)
                                return confined.error().message;
                              std::string text = std::to_string(refused_system_calls(SystemCalls::collector).size());
                              for (const auto& [name, count] : refused_system_calls(SystemCalls::hasher)) {
                                text += " " + name + "=" + std::to_string(count);
                              }
                              return text;
                            });
  EXPECT_EQ(outcome.also, "0 socket=1");
}

// The helper could write to whatever it shares; so it shares nothing of what tells of procmond.
TEST_F(TakenOver, AForkedHelperCannotReportRefusalsAsProcmonds) {
  const auto outcome =
      play([] { return Result<void>{}; }, {},
           [&]() -> std::string {
             share_refusal_counts();
             const pid_t helper = ::fork();
             if (helper == 0) {
               if (as_collector(OnViolation::deny)) (void)::socket(AF_INET, SOCK_STREAM, 0);
               ::_exit(refused_system_calls(SystemCalls::collector).size() == 1 ? 0 : 1);
             }
             int status = -1;
             ::waitpid(helper, &status, 0);
             return std::to_string(status) + " " + std::to_string(refused_system_calls(SystemCalls::collector).size());
           });
  EXPECT_EQ(outcome.also, "0 0");
}

// Who adds a user replaces the file.
TEST_F(TakenOver, ReadsTheUserDatabaseAlsoAfterItWasReplaced) {
  const auto etc = target_.folder + "/etc";
  std::filesystem::create_directory(etc);
  ASSERT_TRUE(base::write_file_atomic(etc + "/passwd", "old", 0644));
  std::array<int, 2> ready{}, replaced{};
  ASSERT_EQ(::pipe(ready.data()), 0);
  ASSERT_EQ(::pipe(replaced.data()), 0);
  const auto replacer = ::fork();
  if (replacer == 0) {
    char byte = 0;
    if (::read(ready[0], &byte, 1) == 1) (void)base::write_file_atomic(etc + "/passwd", "new", 0644);
    (void)!::write(replaced[1], "x", 1);
    ::_exit(0);
  }
  const auto outcome = play(
      [&]() -> Result<void> {
        DE_CHECK(drop_privileges(
            collector_plan({.user = unprivileged, .ledger_folder = target_.ledger_folder, .passwd_folder = etc})));
        return {};
      },
      {},
      [&]() -> std::string {
        char byte = 0;
        if (::write(ready[1], "x", 1) != 1 || ::read(replaced[0], &byte, 1) != 1) return "no answer";
        const auto text = base::read_file(etc + "/passwd", 100);
        return text ? *text : text.error().message;
      });
  ::waitpid(replacer, nullptr, 0);
  for (const int fd : {ready[0], ready[1], replaced[0], replaced[1]}) ::close(fd);
  EXPECT_EQ(outcome.also, "new");
}

struct Ended {
  int status = 0;
  std::string said;
};
Ended ended_by(const std::function<Result<void>()>& confine, const std::function<void()>& violate) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return {};
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(writer.get(), STDERR_FILENO);
    if (!confine()) ::_exit(1);
    violate();
    ::_exit(2);
  }
  writer.reset();
  Ended result;
  result.said = base::read_up_to(reader.get(), 64 * 1024).value_or("unreadable");
  ::waitpid(child, &result.status, 0);
  return result;
}

TEST_F(TakenOver, IsEndedWithTheCallsNameWhereViolationsEnd) {
  for (const bool helper : {false, true}) {
    const auto ended = ended_by([&] { return helper ? as_helper(OnViolation::end) : as_collector(OnViolation::end); },
                                [] { (void)::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr); });
    EXPECT_TRUE(WIFSIGNALED(ended.status) && WTERMSIG(ended.status) == SIGSYS) << ended.status << ended.said;
    EXPECT_THAT(ended.said, HasSubstr("not in the list: ptrace\n"));
  }
}

TEST_F(TakenOver, ASignalThatSomebodySendsIsNoRefusedCall) {
  const auto ended =
      ended_by([&] { return as_collector(OnViolation::deny); }, [] { (void)::kill(::getpid(), SIGSYS); });
  EXPECT_TRUE(WIFSIGNALED(ended.status) && WTERMSIG(ended.status) == SIGSYS) << ended.status;
}

// The numbers of x32 are calls of another table to the kernel; those it kills whatever the list says.
#ifdef __x86_64__
TEST_F(TakenOver, IsKilledByACallThroughAnotherTable) {
  const auto ended =
      ended_by([&] { return as_collector(OnViolation::deny); }, [] { (void)::syscall(0x40000000 | SYS_getpid); });
  EXPECT_TRUE(WIFSIGNALED(ended.status) && WTERMSIG(ended.status) == SIGSYS) << ended.status;
}
#endif

TEST_F(TakenOver, ReachedTellsWhatIsInForce) {
  const auto outcome = play([] { return Result<void>{}; }, {},
                            [&]() -> std::string {
                              auto plan =
                                  collector_plan({.user = unprivileged, .ledger_folder = target_.ledger_folder});
                              plan.on_violation = OnViolation::deny;
                              const auto reached = drop_privileges(plan);
                              if (!reached) return reached.error().message;
                              std::string text;
                              for (const auto& [key, value] : reached->details()) text += key + "=" + value + "\n";
                              return text;
                            });
  EXPECT_THAT(outcome.also, HasSubstr("seccomp=yes\n"));
  EXPECT_THAT(outcome.also, HasSubstr("system_calls=collector, others are refused\n"));
  EXPECT_THAT(outcome.also, HasSubstr("open /etc/shadow: Permission denied"));
  EXPECT_THAT(outcome.also, HasSubstr("socket AF_INET: Operation not permitted"));
  EXPECT_THAT(outcome.also, HasSubstr("landlock=ABI "));
}

TEST_F(TakenOver, HelperKeepsItsTwoCapabilitiesAndNoOther) {
  const auto outcome = play([] { return Result<void>{}; }, {},
                            []() -> std::string {
                              const auto reached = drop_privileges(hasher_plan(unprivileged));
                              if (!reached) return reached.error().message;
                              return reached->capabilities_effective + " " + reached->capabilities_bounding;
                            });
  EXPECT_EQ(outcome.also, "cap_dac_read_search,cap_sys_ptrace cap_dac_read_search,cap_sys_ptrace");
}

TEST(RestrictSystemCalls, NeedsNoNewPrivsFirst) {
  const auto outcome = restrict_system_calls(SystemCalls::hasher);
  ASSERT_FALSE(outcome);
  EXPECT_THAT(outcome.error().message, HasSubstr("no_new_privs"));
}

}  // namespace
}  // namespace daemoneye::sandbox
