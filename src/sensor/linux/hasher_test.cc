// The hashing helper on real files and processes.
#include "sensor/hasher.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/memfd.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>

#include "base/file.h"
#include "base/hash.h"
#include "base/text.h"
#include "base/time.h"
#include "sensor/linux/hash_budget.h"
#include "sensor/linux/hash_file.h"
#include "sensor/linux/procfs_parse.h"

namespace daemoneye::sensor {
namespace {

using event::ExecutableState;
using namespace std::chrono_literals;

constexpr std::size_t any_size = 64 * 1024 * 1024;

std::string hash_of(const std::string& path) {
  auto bytes = base::read_file(path, any_size);
  return bytes ? base::to_hex(base::sha256(*bytes)) : "unreadable";
}

FileIdentity identity_at(const std::string& path) {
  struct stat file{};
  return ::stat(path.c_str(), &file) == 0 ? identity_of(file) : FileIdentity{};
}

std::uint64_t ticks_of(pid_t pid) {
  const auto text = base::read_file("/proc/" + std::to_string(pid) + "/stat", 4096);
  if (!text) return 0;
  const auto stat = parse_stat(*text);
  return stat ? stat->start_ticks : 0;
}

std::vector<pid_t> children_of(pid_t parent) {
  std::vector<pid_t> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const auto pid = base::parse_integer<pid_t>(entry.path().filename().string());
    if (!pid) continue;
    const auto text = base::read_file(entry.path() / "stat", 4096);
    const auto stat = text ? parse_stat(*text) : std::nullopt;
    if (stat && stat->ppid == static_cast<event::Pid>(parent) && stat->state != 'Z') found.push_back(*pid);
  }
  return found;
}

// A process that runs until it is killed.
class Running {
 public:
  explicit Running(const std::function<void()>& execute) {
    int ready[2];
    if (::pipe2(ready, O_CLOEXEC) != 0) std::abort();
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      execute();
      ::_exit(127);
    }
    ::close(ready[1]);
    char byte = 0;
    // The end of the pipe tells that it executed.
    static_cast<void>(!::read(ready[0], &byte, 1));
    ::close(ready[0]);
    ticks_ = ticks_of(pid_);
  }
  explicit Running(const std::string& path) : Running([&] { ::execl(path.c_str(), path.c_str(), "300", nullptr); }) {}
  Running(Running&& other) noexcept : pid_(std::exchange(other.pid_, 0)), ticks_(other.ticks_) {}
  ~Running() { end(); }
  void end() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  HashRequest request(FileIdentity file = {}, std::string path = {}) const {
    return {
        .id = 0, .pid = static_cast<event::Pid>(pid_), .start_ticks = ticks_, .file = file, .path = std::move(path)};
  }

 private:
  pid_t pid_ = 0;
  std::uint64_t ticks_ = 0;
};

class HasherTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/var/tmp/daemoneye-hasher-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    auto loop = EventLoop::create();
    ASSERT_TRUE(loop);
    loop_ = std::move(*loop);
  }
  void TearDown() override {
    hasher_.reset();
    std::filesystem::remove_all(folder_);
  }
  void open(HasherOptions options = {.cpu_percent = 100}, const Confinement& confinement = {}) {
    auto opened = open_hasher(options, confinement);
    ASSERT_TRUE(opened) << opened.error().message;
    hasher_ = std::move(opened->hasher);
    details_ = std::move(opened->details);
    ASSERT_TRUE(hasher_->start(*loop_, [this](const HashAnswer& answer) {
      answers_[answer.id] = answer;
      loop_->stop();
    }));
  }
  std::uint64_t send(HashRequest request) {
    request.id = ++last_id_;
    EXPECT_TRUE(hasher_->submit(request));
    return request.id;
  }
  HashAnswer wait(std::uint64_t id) {
    const auto deadline = Deadline::after(20s);
    auto timer = loop_->add_timer(20s, 0ns, [this] { loop_->stop(); });
    while (!answers_.contains(id) && !deadline.expired()) loop_->run();
    loop_->remove_timer(*timer);
    EXPECT_TRUE(answers_.contains(id)) << "no answer";
    return answers_[id];
  }
  HashAnswer ask(HashRequest request) { return wait(send(std::move(request))); }
  bool until(const std::function<bool()>& condition) {
    const auto deadline = Deadline::after(20s);
    auto timer = loop_->add_timer(5ms, 5ms, [this] { loop_->stop(); });
    while (!condition() && !deadline.expired()) loop_->run();
    loop_->remove_timer(*timer);
    return condition();
  }
  std::string copy(const std::string& name, const std::string& from = "/bin/sleep") {
    const auto path = folder_ + "/" + name;
    std::filesystem::copy_file(from, path, std::filesystem::copy_options::overwrite_existing);
    return path;
  }
  // The worker: the keeper's one child.
  pid_t worker() {
    const auto found = children_of(base::parse_integer<pid_t>(details_["pid"]).value_or(0));
    return found.size() == 1 ? found[0] : 0;
  }

  std::string folder_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Hasher> hasher_;
  std::map<std::string, std::string> details_;
  std::map<std::uint64_t, HashAnswer> answers_;
  std::uint64_t last_id_ = 0;
};

TEST_F(HasherTest, HashesWhatAProcessRuns) {
  open();
  const auto path = copy("ordinary");
  const Running process(path);
  const auto answer = ask(process.request(identity_at(path), path));
  EXPECT_EQ(answer.hash, hash_of(path)) << answer.error;
  EXPECT_EQ(answer.state, ExecutableState::ok);
  EXPECT_EQ(answer.file, identity_at(path));
  EXPECT_EQ(answer.path, path);
}

TEST_F(HasherTest, FillsInWhatAnEventDidNotKnow) {
  open();
  const auto path = copy("unknown");
  const Running process(path);
  const auto answer = ask(process.request());
  EXPECT_EQ(answer.hash, hash_of(path)) << answer.error;
  EXPECT_EQ(answer.file, identity_at(path));
  EXPECT_EQ(answer.path, path);
}

TEST_F(HasherTest, HashesADeletedExecutable) {
  open();
  const auto path = copy("deleted");
  const auto before = identity_at(path);
  const auto hash = hash_of(path);
  const Running process(path);
  std::filesystem::remove(path);
  const auto answer = ask(process.request(before, path));
  EXPECT_EQ(answer.hash, hash) << answer.error;
  EXPECT_EQ(answer.state, ExecutableState::deleted);
  EXPECT_EQ(answer.path, path) << "without the kernel's mark";
  EXPECT_EQ(answer.file.inode, 0U) << "its change time is not the one that the identity of before stands for";
}

TEST_F(HasherTest, TellsAReplacedExecutableFromADeletedOne) {
  open();
  const auto path = copy("replaced");
  const auto before = identity_at(path);
  const auto hash = hash_of(path);
  const Running process(path);
  const auto other = copy("other", "/bin/true");
  std::filesystem::rename(other, path);
  const auto answer = ask(process.request(before, path));
  EXPECT_EQ(answer.hash, hash) << "of what runs, not of what took its place; " << answer.error;
  EXPECT_EQ(answer.state, ExecutableState::replaced);
}

TEST_F(HasherTest, AReplacedExecutableWithAnotherLinkIsReplacedToo) {
  open();
  const auto path = copy("linked");
  std::filesystem::create_hard_link(path, folder_ + "/kept");
  const auto before = identity_at(path);
  const Running process(path);
  std::filesystem::rename(copy("other", "/bin/true"), path);
  EXPECT_EQ(ask(process.request(before, path)).state, ExecutableState::replaced);
}

TEST_F(HasherTest, AFileThatIsReallyCalledDeletedIsNot) {
  open();
  const auto path = copy("odd (deleted)");
  const Running process(path);
  const auto answer = ask(process.request(identity_at(path), path));
  EXPECT_EQ(answer.state, ExecutableState::ok);
  EXPECT_EQ(answer.path, path);
}

TEST_F(HasherTest, HashesWhatRunsFromMemory) {
  open();
  const auto bytes = base::read_file("/bin/sleep", any_size);
  ASSERT_TRUE(bytes);
  const int memory = ::memfd_create("payload", MFD_CLOEXEC);
  ASSERT_GE(memory, 0);
  ASSERT_TRUE(base::write_all(memory, *bytes));
  const Running process([&] {
    char name[] = "payload", time[] = "300";
    char* const arguments[] = {name, time, nullptr};
    ::fexecve(memory, arguments, environ);
  });
  ::close(memory);
  const auto answer = ask(process.request());
  EXPECT_EQ(answer.state, ExecutableState::memfd);
  EXPECT_EQ(answer.hash, base::to_hex(base::sha256(*bytes))) << answer.error;
  EXPECT_EQ(answer.path, "/memfd:payload");
}

TEST_F(HasherTest, AScriptsExecutableIsItsInterpreter) {
  open();
  const auto path = folder_ + "/script";
  ASSERT_TRUE(base::write_file_atomic(path, "#!/bin/sh\nread line\n", 0755));
  int input[2];
  ASSERT_EQ(::pipe2(input, O_CLOEXEC), 0);
  const Running process([&] {
    ::dup2(input[0], STDIN_FILENO);
    ::execl(path.c_str(), path.c_str(), nullptr);
  });
  const auto answer = ask(process.request());
  EXPECT_EQ(answer.hash, hash_of("/bin/sh")) << answer.error;
  ::close(input[0]);
  ::close(input[1]);
}

TEST_F(HasherTest, HashesTheFileOfAProcessThatIsGoneWhenNothingOfItChanged) {
  open();
  const auto path = copy("short-lived");
  Running process(path);
  const auto request = process.request(identity_at(path), path);
  process.end();
  const auto answer = ask(request);
  EXPECT_EQ(answer.hash, hash_of(path)) << answer.error;
  EXPECT_EQ(answer.file, identity_at(path));
}

TEST_F(HasherTest, NeverTakesAnotherFilesContentForThatOfAProcessThatIsGone) {
  open();
  const auto path = copy("gone");
  Running process(path);
  const auto request = process.request(identity_at(path), path);
  process.end();
  // The same inode and size, written to, and its modification time put back: the change time gives it away.
  struct stat before{};
  ASSERT_EQ(::stat(path.c_str(), &before), 0);
  const int file = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  ASSERT_EQ(::pwrite(file, "X", 1, 1000), 1);
  const timespec times[2] = {before.st_atim, before.st_mtim};
  ASSERT_EQ(::futimens(file, times), 0);
  ::close(file);
  const auto now = identity_at(path);
  ASSERT_EQ(now.mtime_ns, request.file.mtime_ns);
  ASSERT_EQ(now.size, request.file.size);
  EXPECT_EQ(ask(request).hash, std::nullopt);

  std::filesystem::rename(copy("other", "/bin/sleep"), path);
  EXPECT_EQ(ask(request).hash, std::nullopt) << "another file with the same content is another file";
  std::filesystem::remove(path);
  ASSERT_EQ(::mkfifo(path.c_str(), 0755), 0);
  EXPECT_EQ(ask(request).hash, std::nullopt) << "and a pipe is not opened";
  std::filesystem::remove(path);
  std::filesystem::create_symlink("/bin/sleep", path);
  auto link = request;
  link.file = identity_at("/bin/sleep");
  EXPECT_EQ(ask(link).hash, std::nullopt) << "the kernel's paths hold no links";
}

// A procmond that was taken over names any file as that of a process which never was.
TEST_F(HasherTest, HashesNoFileThatCannotHaveBeenExecutedForAProcessThatIsGone) {
  open();
  const auto path = folder_ + "/secret";
  ASSERT_TRUE(base::write_file_atomic(path, "root:$6$not-for-you", 0600));
  constexpr event::Pid never = 0x7fff'fffe;
  EXPECT_EQ(ask({.pid = never, .start_ticks = 1, .file = identity_at(path), .path = path}).hash, std::nullopt);
  EXPECT_EQ(ask({.pid = never, .start_ticks = 1, .file = identity_at("/etc/shadow"), .path = "/etc/shadow"}).hash,
            std::nullopt);
  ASSERT_EQ(::chmod(path.c_str(), 0700), 0);
  EXPECT_EQ(ask({.pid = never, .start_ticks = 1, .file = identity_at(path), .path = path}).hash, hash_of(path));
}

TEST_F(HasherTest, AProcessThatExecutedSomethingElseIsAnsweredForItsFormerImageOnly) {
  open();
  const auto first = copy("first"), second = copy("second");
  std::filesystem::resize_file(second, std::filesystem::file_size(second) + 1);
  const Running process(second);
  const auto answer = ask(process.request(identity_at(first), first));
  EXPECT_EQ(answer.hash, hash_of(first)) << "found at its path, unchanged; " << answer.error;
  std::filesystem::remove(first);
  auto request = process.request(identity_at(second), first);
  request.file.inode += 1;
  EXPECT_EQ(ask(request).hash, std::nullopt);
}

TEST_F(HasherTest, APidThatWasGivenAgainIsNotTheProcess) {
  open();
  const Running process("/bin/sleep");
  auto request = process.request();
  request.start_ticks += 1;
  const auto answer = ask(request);
  EXPECT_EQ(answer.hash, std::nullopt);
  EXPECT_EQ(answer.state, std::nullopt);
}

TEST_F(HasherTest, AFileWrittenToAfterItWasExecutedIsNotWhatRuns) {
  open();
  const auto path = copy("touched");
  const Running process(path);
  auto file = identity_at(path);
  file.mtime_ns -= 1;  // as if it had been written to since
  const auto answer = ask(process.request(file, path));
  EXPECT_EQ(answer.hash, std::nullopt);
  EXPECT_FALSE(answer.error.empty());
}

TEST_F(HasherTest, LargerFilesThanTheBoundAreNotRead) {
  open({.cpu_percent = 100, .max_file_bytes = 1000});
  const auto path = copy("large");
  const Running process(path);
  const auto answer = ask(process.request(identity_at(path), path));
  EXPECT_EQ(answer.state, ExecutableState::ok);
  EXPECT_EQ(answer.hash, std::nullopt);
  EXPECT_NE(answer.error.find("larger than 1000"), std::string::npos) << answer.error;
}

TEST_F(HasherTest, OperatorsHashRegularFilesWithAnExecuteBitOnly) {
  open();
  const auto path = copy("tool");
  EXPECT_EQ(ask({.path = path}).hash, hash_of(path));
  std::filesystem::create_symlink(path, folder_ + "/link");
  EXPECT_EQ(ask({.path = folder_ + "/link"}).hash, hash_of(path)) << "as people call them: /bin/sh is a link";
  ::chmod(path.c_str(), 0644);
  EXPECT_EQ(ask({.path = path}).hash, std::nullopt);
  EXPECT_EQ(ask({.path = "/etc/shadow"}).hash, std::nullopt);
  EXPECT_EQ(ask({.path = folder_}).hash, std::nullopt);
  EXPECT_EQ(ask({.path = "/dev/zero"}).hash, std::nullopt);
  EXPECT_EQ(ask({.path = "relative"}).hash, std::nullopt);
  EXPECT_EQ(ask({.path = folder_ + "/missing"}).hash, std::nullopt);
}

TEST_F(HasherTest, SmallFilesDoNotWaitForLargeOnes) {
  open({.cpu_percent = 5});
  const auto large = folder_ + "/large";
  ASSERT_TRUE(base::write_file_atomic(large, "#!", 0755));
  std::filesystem::resize_file(large, 2'000'000'000);  // a hole: read, not stored
  const auto first = send({.path = large});
  const auto small = copy("small");
  EXPECT_EQ(ask({.path = small}).hash, hash_of(small));
  EXPECT_FALSE(answers_.contains(first));
}

TEST_F(HasherTest, ManyRequestsAtOnceAreAllAnsweredRightly) {
  open();
  std::map<std::uint64_t, std::string> wanted;
  for (int i = 0; i < 1000; ++i) {
    const auto path = folder_ + "/" + std::to_string(i);
    ASSERT_TRUE(base::write_file_atomic(path, "#!/bin/true " + std::to_string(i), 0755));
    wanted[send({.path = path})] = path;
  }
  for (const auto& [id, path] : wanted) EXPECT_EQ(wait(id).hash, hash_of(path));
  EXPECT_EQ(hasher_->counters().hashed, 1000U);
}

TEST_F(HasherTest, RefusesWhatDoesNotFitTheQueue) {
  open({.cpu_percent = 1, .max_queued = 3});
  const auto path = copy("tool");
  bool refused = false;
  for (std::uint64_t i = 1; i < 2000 && !refused; ++i) refused = !hasher_->submit({.id = i, .path = path});
  EXPECT_TRUE(refused);
  EXPECT_EQ(hasher_->counters().refused, 1U);
}

TEST_F(HasherTest, AWorkerThatIsKilledIsReplacedAndWhatItHeldIsAskedAgain) {
  open();
  const auto path = copy("tool");
  ASSERT_TRUE(ask({.path = path}).hash);
  const auto first = worker();
  ASSERT_GT(first, 0);
  ::kill(first, SIGSTOP);
  const auto id = send({.path = path});
  ::kill(first, SIGKILL);
  EXPECT_EQ(wait(id).hash, hash_of(path));
  EXPECT_TRUE(until([&] { return worker() > 0 && worker() != first; }));
  EXPECT_EQ(hasher_->counters().restarts, 1U);
  EXPECT_NE(hasher_->problem().find("another took its place"), std::string::npos) << hasher_->problem();
}

TEST_F(HasherTest, AFileThatOnlyWaitedWhileWorkersEndedIsNotHopeless) {
  open({.cpu_percent = 100, .max_file_bytes = std::uint64_t{1} << 40});
  std::vector<std::uint64_t> ids;
  for (int i = 0; i < 4; ++i) {
    const auto path = folder_ + "/endless" + std::to_string(i);
    ASSERT_TRUE(base::write_file_atomic(path, "#!", 0755));
    std::filesystem::resize_file(path, std::uint64_t{64} << 30);  // a hole: read, not stored
    ids.push_back(send({.path = path}));
  }
  for (std::uint64_t ended = 0; ended < 2; ++ended) {
    const auto before = hasher_->counters().bytes;
    ASSERT_TRUE(until([&] { return hasher_->counters().restarts == ended && hasher_->counters().bytes > before; }));
    ::kill(worker(), SIGKILL);
  }
  // Each worker was at one of them at most; the others are to be asked for again.
  int hopeless = 0;
  for (const auto id : ids) hopeless += wait(id).hopeless ? 1 : 0;
  EXPECT_LE(hopeless, 2);
}

TEST_F(HasherTest, AWorkerThatEndsOverAndOverIsNotSaidToHang) {
  open({.cpu_percent = 100, .stall_timeout = 2s});
  const auto path = copy("tool");
  // The pauses between them grow with each.
  for (int i = 0; i < 6; ++i) {
    ASSERT_TRUE(until([&] { return worker() > 0; }));
    const auto held = worker();
    ::kill(held, SIGSTOP);
    const auto id = send({.path = path});
    ::kill(held, SIGKILL);
    EXPECT_EQ(wait(id).hash, hash_of(path));
  }
  EXPECT_EQ(hasher_->counters().restarts, 6U);
  EXPECT_EQ(hasher_->counters().stalls, 0U);
}

TEST_F(HasherTest, OpeningFilesKeepsToTheBudgetToo) {
  open({.cpu_percent = 1, .max_queued = 1000});
  const auto path = copy("tool");
  ASSERT_TRUE(ask({.path = path}).hash);
  // As a program that executes without end: nothing is left to be read, but each is opened.
  const auto end = Deadline::after(3s);
  ASSERT_TRUE(until([&] {
    while (hasher_->submit({.id = ++last_id_, .path = path})) {
    }
    return end.expired();
  }));
  // What was saved, a hundredth of the time, and some rounds of requests ahead; without a budget it is most of the
  // time.
  EXPECT_LT(hasher_->counters().cpu, 1s);
  EXPECT_GT(hasher_->counters().refused, 0U);
}

TEST_F(HasherTest, AnotherShareOfTheProcessorCountsAtOnce) {
  open({.cpu_percent = 1});
  const auto path = folder_ + "/large";
  {
    std::ofstream file(path);
    file << "x";
  }
  std::filesystem::resize_file(path, std::uintmax_t{256} << 20);  // at a hundredth of a core half a minute and more
  ASSERT_EQ(::chmod(path.c_str(), 0755), 0);
  const auto id = send({.path = path});
  ASSERT_TRUE(until([&] { return hasher_->counters().bytes > 0; }));
  hasher_->set_cpu_percent(100);
  EXPECT_TRUE(wait(id).hash);
}

TEST_F(HasherTest, AWorkerThatHangsIsReplaced) {
  open({.cpu_percent = 100, .stall_timeout = 100ms});
  const auto path = copy("tool");
  ASSERT_TRUE(ask({.path = path}).hash);
  ::kill(worker(), SIGSTOP);  // as if a file system did not answer
  EXPECT_EQ(ask({.path = path}).hash, hash_of(path));
  EXPECT_EQ(hasher_->counters().stalls, 1U);
  EXPECT_NE(hasher_->problem().find("hung"), std::string::npos) << hasher_->problem();
}

TEST_F(HasherTest, AHelperThatIsGoneAnswersWhatWasAskedAndSaysSo) {
  open();
  const auto path = copy("tool");
  ASSERT_TRUE(ask({.path = path}).hash);
  const auto keeper = base::parse_integer<pid_t>(details_["pid"]).value_or(0);
  const auto held = worker();
  ASSERT_GT(held, 0);
  ::kill(held, SIGSTOP);
  const auto id = send({.path = path});
  ::kill(keeper, SIGKILL);
  const auto answer = wait(id);
  EXPECT_EQ(answer.hash, std::nullopt);
  EXPECT_NE(hasher_->problem().find("no longer hashed"), std::string::npos) << hasher_->problem();
  EXPECT_FALSE(hasher_->submit({.id = 99, .path = path}));
  EXPECT_TRUE(until([&] { return ::kill(held, 0) != 0; })) << "the worker dies with its keeper";
}

TEST_F(HasherTest, AnswersWhatIsLateWithoutAHash) {
  open({.cpu_percent = 100, .request_timeout = 1ms, .stall_timeout = 60s});
  const auto path = copy("tool");
  const auto held = worker();
  ASSERT_GT(held, 0);
  ::kill(held, SIGSTOP);
  const auto answer = ask({.path = path});
  EXPECT_EQ(answer.hash, std::nullopt);
  EXPECT_NE(answer.error.find("deadline"), std::string::npos) << answer.error;
  EXPECT_FALSE(answer.hopeless) << "nobody had begun with it";
  EXPECT_EQ(hasher_->counters().late, 1U);
  ::kill(held, SIGCONT);
}

// The device that the kernel itself keeps for what is mounted at `path`.
std::optional<std::uint64_t> device_mounted_at(const std::string& path) {
  const auto text = base::read_file("/proc/self/mountinfo", 1 << 20);
  if (!text) return std::nullopt;
  for (const auto line : base::split(*text, '\n')) {
    const auto fields = base::split(line, ' ');
    if (fields.size() < 5 || fields[4] != path) continue;
    const auto numbers = base::split(fields[2], ':');
    return ::makedev(base::parse_integer<unsigned>(numbers[0]).value_or(0),
                     base::parse_integer<unsigned>(numbers[1]).value_or(0));
  }
  return std::nullopt;
}

TEST_F(HasherTest, KnowsAFileOfAnOverlayByTheKernelsNumbers) {
  const auto lower = folder_ + "/lower", memory = folder_ + "/memory", merged = folder_ + "/merged";
  for (const auto& path : {lower, memory, merged}) std::filesystem::create_directory(path);
  std::filesystem::copy_file("/bin/sleep", lower + "/program");
  // Layers of two file systems, so that stat(2) gives neither the overlay's device nor its inode numbers.
  if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      ::mount("tmpfs", memory.c_str(), "tmpfs", 0, nullptr) != 0 ||
      ::mount("overlay", merged.c_str(), "overlay", 0, ("xino=off,lowerdir=" + lower + ":" + memory).c_str()) != 0) {
    ::umount2(memory.c_str(), MNT_DETACH);
    GTEST_SKIP() << "no overlay can be mounted here: " << std::strerror(errno);
  }
  open();
  const auto path = merged + "/program";
  {
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    auto identity = identity_at(path);
    const auto as_stat_says = identity;
    identity.device = device_mounted_at(merged).value_or(0);
    const auto info = base::read_file("/proc/self/fdinfo/" + std::to_string(file.get()), 4096);
    for (const auto line : base::split(*info, '\n')) {
      if (line.starts_with("ino:")) identity.inode = *base::parse_integer<std::uint64_t>(base::trim(line.substr(4)));
    }
    EXPECT_NE(identity, as_stat_says) << "else this shows nothing";
    Running process(path);
    auto answer = ask(process.request(identity, path));
    EXPECT_EQ(answer.hash, hash_of(path)) << answer.error;
    EXPECT_EQ(answer.file, identity) << "kept under what the kernel says of the next run, too";
    EXPECT_EQ(answer.state, ExecutableState::ok);
    auto other = process.request(identity, path);
    ++other.file.inode;
    EXPECT_EQ(ask(other).hash, std::nullopt);
    const auto request = process.request(identity, path);
    process.end();
    EXPECT_EQ(ask(request).hash, hash_of(path)) << "gone, and found at its path";
  }
  hasher_.reset();  // its handles keep the file systems busy
  ::umount2(merged.c_str(), MNT_DETACH);
  ::umount2(memory.c_str(), MNT_DETACH);
}

TEST_F(HasherTest, WithoutPrivilegesOnlyOnesOwnExecutablesAreHashed) {
  if (::geteuid() != 0) GTEST_SKIP() << "the change of user needs root";
  constexpr uid_t nobody = 65534;
  const auto become_nobody = [] { return ::setgid(nobody) == 0 && ::setuid(nobody) == 0; };
  open({.cpu_percent = 100}, {.drop = [&]() -> Result<std::map<std::string, std::string>> {
                                if (!become_nobody()) return fail_errno("setuid", errno);
                                return {};
                              },
                              .filter = {}});
  const Running foreign("/bin/sleep");
  const auto answer = ask(foreign.request());
  EXPECT_EQ(answer.state, ExecutableState::unreadable);
  EXPECT_EQ(answer.hash, std::nullopt);
  const Running own([&] {
    if (become_nobody()) ::execl("/bin/sleep", "sleep", "300", nullptr);
  });
  EXPECT_EQ(ask(own.request()).hash, hash_of("/bin/sleep"));
}

TEST_F(HasherTest, DoesNotServeUnconfined) {
  const auto refuses = [] { return Result<std::map<std::string, std::string>>(fail(Errc::io, "no such luck")); };
  for (const auto& confinement :
       {Confinement{.drop = refuses, .filter = {}}, Confinement{.drop = {}, .filter = refuses}}) {
    const auto opened = open_hasher({}, confinement);
    ASSERT_FALSE(opened);
    EXPECT_NE(opened.error().message.find("no such luck"), std::string::npos) << opened.error().message;
  }
}

TEST_F(HasherTest, TellsWhatItsConfinementReached) {
  using Details = std::map<std::string, std::string>;
  open({}, {.drop = [] { return Result<Details>(Details{{"uid", "7"}}); },
            .filter = [] { return Result<Details>(Details{{"seccomp", "on"}}); }});
  EXPECT_EQ(details_["uid"], "7");
  EXPECT_EQ(details_["seccomp"], "on");
  EXPECT_NE(details_["pid"], "");
}

TEST_F(HasherTest, HasLoadedWhatHashingNeedsBeforeTheFilter) {
  const auto settings = folder_ + "/openssl.cnf";
  ASSERT_TRUE(base::write_file_atomic(settings,
                                      "openssl_conf = start\n[start]\nproviders = used\n[used]\ndefault = on\n"
                                      "legacy = on\n[on]\nactivate = 1\n",
                                      0644));
  ::setenv("OPENSSL_CONF", settings.c_str(), 1);
  const auto loaded = [](const std::string& whose = "self") {
    const auto maps = base::read_file("/proc/" + whose + "/maps", 1 << 20);
    return maps && maps->find("legacy.so") != std::string::npos;
  };
  if (loaded()) GTEST_SKIP() << "not run: it is loaded already";
  open({}, {.drop = {}, .filter = [&] {
              using Details = std::map<std::string, std::string>;
              return Result<Details>(Details{{"loaded", loaded() ? "before" : "not yet"}});
            }});
  ::unsetenv("OPENSSL_CONF");
  const auto path = copy("tool");
  EXPECT_EQ(ask({.path = path}).hash, hash_of(path));
  if (!loaded(std::to_string(worker()))) GTEST_SKIP() << "not run: this OpenSSL has no such provider";
  EXPECT_EQ(details_["loaded"], "before");
}

TEST_F(HasherTest, HoldsNothingOfProcmondsOpen) {
  const int secret = ::open("/dev/null", O_RDONLY);
  open();
  const auto keeper = base::parse_integer<pid_t>(details_["pid"]).value_or(0);
  for (const auto pid : {keeper, worker()}) {
    ASSERT_GT(pid, 0);
    for (const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd")) {
      const auto number = base::parse_integer<int>(entry.path().filename().string());
      EXPECT_LE(*number, 8) << std::filesystem::read_symlink(entry.path());
    }
  }
  ::close(secret);
}

}  // namespace
}  // namespace daemoneye::sensor
