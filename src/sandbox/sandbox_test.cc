#include "sandbox/sandbox.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <functional>
#include <memory>
#include <thread>

#include "base/file.h"
#include "base/unique_fd.h"
#include "sandbox/mechanisms.h"

namespace daemoneye::sandbox {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// A user that exists on every Debian.
constexpr const char* unprivileged = "nobody";

bool is_root() { return ::geteuid() == 0; }

#define NEEDS_ROOT() \
  if (!is_root()) GTEST_SKIP() << "needs root: only root can change to another user"

struct ChildResult {
  std::string text;
  int status = -1;
};

// Runs `work` in a forked child, which may give up what the test itself still needs.
ChildResult in_child(const std::function<std::string()>& work) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return {"pipe2 failed", -1};
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const pid_t child = ::fork();
  if (child == 0) {
    const std::string text = work();
    ::_exit(base::write_all(writer.get(), text) ? 0 : 99);
  }
  writer.reset();
  ChildResult result;
  result.text = base::read_up_to(reader.get(), 64 * 1024).value_or("unreadable");
  ::waitpid(child, &result.status, 0);
  return result;
}

std::string dropped_then(const Plan& plan, const std::function<std::string(const Reached&)>& work) {
  return in_child([&]() -> std::string {
           const auto reached = drop_privileges(plan);
           return reached ? work(*reached) : "drop failed: " + reached.error().message;
         })
      .text;
}

const Plan full{.user = unprivileged, .own_network = true, .drop_capabilities = true};

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = "/tmp/daemoneye-sandbox-XXXXXX";
    path_ = ::mkdtemp(name.data());
    ::chmod(path_.c_str(), 0755);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

struct stat status_of(const std::string& path) {
  struct stat info{};
  EXPECT_EQ(::lstat(path.c_str(), &info), 0) << path;
  return info;
}

std::string line_of_status(const std::string& key) {
  const auto text = base::read_file("/proc/self/status", 64 * 1024).value_or("");
  const auto begin = text.find("\n" + key + ":");
  return begin == std::string::npos ? "" : text.substr(begin + 1, text.find('\n', begin + 1) - begin - 1);
}

TEST(DropPrivileges, LeavesNoIdNoCapabilityAndNoWayToGainOne) {
  NEEDS_ROOT();
  const auto user = find_user(unprivileged);
  ASSERT_TRUE(user);
  const auto seen = dropped_then(full, [](const Reached& reached) {
    std::string text = std::to_string(reached.uid) + " " + std::to_string(reached.gid) + " " +
                       reached.capabilities_effective + " " + reached.capabilities_bounding + "\n";
    for (const char* key : {"Uid", "Gid", "Groups", "NoNewPrivs", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}) {
      text += line_of_status(key) + "\n";
    }
    return text;
  });
  const auto uid = std::to_string(user->uid);
  const auto gid = std::to_string(user->gid);
  EXPECT_THAT(seen, StartsWith(uid + " " + gid + " none none\n"));
  EXPECT_THAT(seen, HasSubstr("Uid:\t" + uid + "\t" + uid + "\t" + uid + "\t" + uid + "\n"));
  EXPECT_THAT(seen, HasSubstr("Gid:\t" + gid + "\t" + gid + "\t" + gid + "\t" + gid + "\n"));
  EXPECT_THAT(seen, HasSubstr("Groups:\t" + gid + " \n"));
  EXPECT_THAT(seen, HasSubstr("NoNewPrivs:\t1\n"));
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}) {
    EXPECT_THAT(seen, HasSubstr(std::string(set) + ":\t0000000000000000\n"));
  }
}

TEST(DropPrivileges, CannotTakeRootBackNorReadRootsFiles) {
  NEEDS_ROOT();
  EXPECT_EQ(dropped_then(full,
                         [](const Reached&) {
                           std::string text;
                           text += ::setuid(0) == 0 ? "root again" : "no root";
                           text += ::seteuid(0) == 0 ? ", root again" : ", no root";
                           text += ::open("/etc/shadow", O_RDONLY | O_CLOEXEC) >= 0 ? ", shadow" : ", no shadow";
                           return text;
                         }),
            "no root, no root, no shadow");
}

TEST(DropPrivileges, HasNoNetworkNotEvenTheLoopbackOfTheMachine) {
  NEEDS_ROOT();
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(listener.get(), 4), 0);
  socklen_t size = sizeof address;
  ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  const auto connect_outcome = [&](const Reached& reached) -> std::string {
    const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const bool connected = ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    return std::string(connected ? "connected" : "unreachable") + (reached.own_network ? " own" : " shared");
  };
  Plan with_network = full;
  with_network.own_network = false;
  EXPECT_THAT(dropped_then(with_network, connect_outcome), StartsWith("connected"));
  EXPECT_EQ(dropped_then(full, connect_outcome), "unreachable own");
}

TEST(DropPrivileges, GainsNothingFromASetUserIdProgram) {
  NEEDS_ROOT();
  const TemporaryFolder folder;
  const auto program = folder / "id";
  ASSERT_TRUE(std::filesystem::copy_file("/usr/bin/id", program));
  ASSERT_EQ(::chmod(program.c_str(), 04755), 0);
  const auto effective_user = [&]() -> std::string {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return "pipe2 failed";
    const UniqueFd reader(ends[0]);
    UniqueFd writer(ends[1]);
    const pid_t child = ::fork();
    if (child == 0) {
      ::dup2(writer.get(), STDOUT_FILENO);
      ::execl(program.c_str(), "id", "-u", nullptr);
      ::_exit(127);
    }
    writer.reset();
    auto text = base::read_up_to(reader.get(), 100).value_or("unreadable");
    ::waitpid(child, nullptr, 0);
    return text;
  };
  const auto user = find_user(unprivileged);
  ASSERT_TRUE(user);
  const auto control =
      in_child([&]() -> std::string { return become_user(*user) ? effective_user() : "become_user failed"; });
  if (control.text != "0\n") GTEST_SKIP() << "set-user-ID has no effect below /tmp here (mounted nosuid)";
  EXPECT_EQ(dropped_then(full, [&](const Reached&) { return effective_user(); }), std::to_string(user->uid) + "\n");
}

TEST(DropPrivileges, KeepsTheParentDeathSignalThatAChangeOfUserForgets) {
  NEEDS_ROOT();
  const auto seen = in_child([]() -> std::string {
    if (::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) return "prctl failed";
    if (!drop_privileges(full)) return "drop failed";
    const auto kept = read_death_signal();
    return kept ? std::to_string(kept->signal) : "unreadable";
  });
  EXPECT_EQ(seen.text, std::to_string(SIGKILL));
}

TEST(DropPrivileges, CannotBeTracedByProcessesOfTheSameUser) {
  NEEDS_ROOT();
  EXPECT_EQ(dropped_then(full, [](const Reached&) { return std::to_string(::prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)); }),
            "0");
}

TEST(DropPrivileges, RefusesRootAsTheUserToChangeToAndARootThatNamesNone) {
  EXPECT_THAT(dropped_then({.user = "root"}, [](const Reached&) { return "dropped"; }), HasSubstr("is root"));
  if (is_root()) {
    EXPECT_THAT(dropped_then({.user = ""}, [](const Reached&) { return "dropped"; }), HasSubstr("no user"));
  }
}

TEST(DropPrivileges, RefusesAnUnknownUserBeforeAnythingIsGivenUp) {
  const auto outcome = in_child([]() -> std::string {
    const auto reached = drop_privileges({.user = "no-such-user-here", .own_network = true});
    return (reached ? "dropped" : reached.error().message) + " / " + line_of_status("NoNewPrivs");
  });
  EXPECT_THAT(outcome.text, HasSubstr("no-such-user-here"));
  EXPECT_THAT(outcome.text, HasSubstr("NoNewPrivs:\t0"));
}

TEST(DropPrivileges, RefusesOnceThreadsExistBecauseTheyWouldKeepTheirPrivileges) {
  const auto outcome = in_child([]() -> std::string {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return "pipe2 failed";
    std::thread other([&] {
      char byte = 0;
      [[maybe_unused]] const auto count = ::read(ends[0], &byte, 1);
    });
    const auto reached = drop_privileges(full);
    ::close(ends[1]);
    other.join();
    return reached ? "dropped" : reached.error().message;
  });
  EXPECT_THAT(outcome.text, HasSubstr("before threads are started"));
}

TEST(DropPrivileges, ThreadsThatWereJoinedAreNone) {
  const auto outcome = in_child([]() -> std::string {
    for (int i = 0; i < 100; ++i) std::thread([] {}).join();
    const auto reached = drop_privileges(full);
    return reached ? "dropped" : reached.error().message;
  });
  EXPECT_THAT(outcome.text, Not(HasSubstr("before threads are started")));
}

TEST(DropPrivileges, WithoutRootNamesWhatIsMissingAndStillGivesUpTheRest) {
  const auto outcome = in_child([]() -> std::string {
    if (is_root()) {
      const auto user = find_user(unprivileged);
      if (!user || !become_user(*user)) return "become_user failed";
    }
    const auto reached = drop_privileges({.user = "daemon", .own_network = true});
    if (!reached) return "drop failed: " + reached.error().message;
    std::string text = reached->no_new_privs ? "nnp\n" : "\n";
    for (const auto& line : reached->missing) text += line + "\n";
    return text + reached->details().at("missing");
  });
  EXPECT_THAT(outcome.text, StartsWith("nnp\n"));
  EXPECT_THAT(outcome.text, HasSubstr("an own network namespace: unshare(CLONE_NEWNET): Operation not permitted"));
  EXPECT_THAT(outcome.text, HasSubstr("user daemon: this process is not root"));
}

TEST(DropPrivileges, WithoutRootStayingWhoOneIsMissesNoUser) {
  const auto outcome = in_child([]() -> std::string {
    if (is_root()) {
      const auto user = find_user(unprivileged);
      if (!user || !become_user(*user)) return "become_user failed";
    }
    const auto reached = drop_privileges({.user = "", .own_network = false, .drop_capabilities = false});
    return reached ? std::to_string(reached->missing.size()) : reached.error().message;
  });
  EXPECT_EQ(outcome.text, "0");
}

TEST(CurrentState, ReportsTheCapabilitiesByName) {
  const auto state = current_state();
  ASSERT_TRUE(state) << state.error().message;
  EXPECT_EQ(state->uid, ::geteuid());
  EXPECT_FALSE(state->no_new_privs);
  const std::unique_ptr<_cap_struct, int (*)(void*)> own(::cap_get_proc(), &::cap_free);
  cap_flag_value_t may_kill = CAP_CLEAR;
  ASSERT_EQ(::cap_get_flag(own.get(), CAP_KILL, CAP_EFFECTIVE, &may_kill), 0);
  EXPECT_EQ(state->capabilities_effective.find("cap_kill") != std::string::npos, may_kill == CAP_SET);
}

TEST(CheckAccessAs, NamesTheClosedFolderOnTheWayAndWhatItIsNeededFor) {
  NEEDS_ROOT();
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "home/checkout/rules");
  ASSERT_EQ(::chmod((folder / "home").c_str(), 0700), 0);
  const auto outcome = check_access_as(unprivileged, {{folder.path(), "state", Access::traverse},
                                                      {folder / "home/checkout/rules", "rules", Access::read}});
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, Errc::permission_denied);
  EXPECT_THAT(outcome.error().message, HasSubstr("the folder " + (folder / "home") + " (mode 0700, root:root)"));
  EXPECT_THAT(outcome.error().message, HasSubstr("needed for rules"));
}

TEST(CheckAccessAs, NamesTheRealFolderBehindASymbolicLink) {
  NEEDS_ROOT();
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "private/state");
  std::filesystem::create_directory_symlink(folder / "private/state", folder / "link");
  ASSERT_EQ(::chmod((folder / "private").c_str(), 0700), 0);
  const auto outcome = check_access_as(unprivileged, {{folder / "link", "state", Access::traverse}});
  ASSERT_FALSE(outcome);
  EXPECT_THAT(outcome.error().message, HasSubstr("the folder " + (folder / "private") + " "));
}

TEST(CheckAccessAs, TellsReadingFromWriting) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "state");
  ASSERT_EQ(::chmod((folder / "state").c_str(), is_root() ? 0755 : 0555), 0);
  EXPECT_TRUE(check_access_as(unprivileged, {{folder / "state", "rules", Access::read}}));
  const auto outcome = check_access_as(unprivileged, {{folder / "state", "state", Access::write_folder}});
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, Errc::permission_denied);
  ASSERT_EQ(::chmod((folder / "state").c_str(), 0777), 0);
  EXPECT_TRUE(check_access_as(unprivileged, {{folder / "state", "state", Access::write_folder}}));
}

TEST(CheckAccessAs, TellsAMissingPathAndAFileWhereAFolderIsNeeded) {
  const TemporaryFolder folder;
  const auto missing = check_access_as(unprivileged, {{folder / "absent/deep", "rules", Access::read}});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Errc::not_found);
  EXPECT_THAT(missing.error().message, HasSubstr(folder / "absent"));
  ASSERT_TRUE(base::write_file_atomic(folder / "file", "x", 0644));
  const auto file = check_access_as(unprivileged, {{folder / "file", "state", Access::write_folder}});
  ASSERT_FALSE(file);
  EXPECT_THAT(file.error().message, HasSubstr("Not a directory"));
}

TEST(CheckAccessAs, LeavesTheCallerWhoItWas) {
  const auto before = ::geteuid();
  EXPECT_TRUE(check_access_as(unprivileged, {{"/", "anything", Access::traverse}}));
  EXPECT_EQ(::geteuid(), before);
}

TEST(PrepareFolder, CreatesItAndItsParentsWhateverTheUmask) {
  const TemporaryFolder folder;
  const auto old = ::umask(077);
  const auto outcome = prepare_folder(folder / "a/b/state", "", "", 0750);
  ::umask(old);
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(status_of(folder / "a").st_mode & 07777, 0755U);
  EXPECT_EQ(status_of(folder / "a/b").st_mode & 07777, 0755U);
  EXPECT_EQ(status_of(folder / "a/b/state").st_mode & 07777, 0750U);
}

TEST(PrepareFolder, CorrectsTheModeAndIsHappyWithAFolderThatIsAsWanted) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "state");
  ASSERT_EQ(::chmod((folder / "state").c_str(), 0777), 0);
  for (int round = 0; round < 2; ++round) {
    ASSERT_TRUE(prepare_folder(folder / "state", "", "", 0750));
    EXPECT_EQ(status_of(folder / "state").st_mode & 07777, 0750U);
  }
}

TEST(PrepareFolder, GivesAFolderToItsUserAndGroup) {
  NEEDS_ROOT();
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "empty");
  const auto user = find_user(unprivileged);
  const auto group = find_group("daemon");
  ASSERT_TRUE(user && group);
  for (const char* name : {"empty", "new"}) {
    ASSERT_TRUE(prepare_folder(folder / name, unprivileged, "daemon", 02750));
    const auto info = status_of(folder / name);
    EXPECT_EQ(info.st_uid, user->uid);
    EXPECT_EQ(info.st_gid, *group);
    EXPECT_EQ(info.st_mode & 07777, 02750U);
  }
}

TEST(PrepareFolder, DoesNotGiveAwayAFolderInWhichSomebodyElsesFilesAre) {
  NEEDS_ROOT();
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "etc");
  ASSERT_TRUE(base::write_file_atomic(folder / "etc/passwd", "x", 0644));
  const auto outcome = prepare_folder(folder / "etc", unprivileged, "daemon", 0750);
  ASSERT_FALSE(outcome);
  EXPECT_THAT(outcome.error().message, HasSubstr("chown -R nobody:daemon " + (folder / "etc")));
  EXPECT_EQ(status_of(folder / "etc").st_uid, 0U);
}

TEST(PrepareFolder, RefusesASymbolicLinkInItsPlace) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "target");
  std::filesystem::create_directory_symlink(folder / "target", folder / "state");
  const auto outcome = prepare_folder(folder / "state", "", "", 0700);
  ASSERT_FALSE(outcome);
  EXPECT_THAT(outcome.error().message, HasSubstr("symbolic link"));
  EXPECT_NE(status_of(folder / "target").st_mode & 07777, 0700U);
}

TEST(PrepareFolder, AsRootFollowsNoLinkThatOthersCouldHavePlantedOnTheWay) {
  NEEDS_ROOT();
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "target");
  std::filesystem::create_directory(folder / "theirs");
  std::filesystem::create_directory_symlink(folder / "target", folder / "theirs/link");
  std::filesystem::create_directory_symlink(folder / "target", folder / "link");
  EXPECT_TRUE(prepare_folder(folder / "link/state", "", "", 0750));
  ASSERT_EQ(::chown((folder / "theirs").c_str(), 65534, 65534), 0);
  const auto outcome = prepare_folder(folder / "theirs/link/planted", unprivileged, "", 0750);
  ASSERT_FALSE(outcome);
  EXPECT_THAT(outcome.error().message, HasSubstr("symbolic link"));
  EXPECT_FALSE(std::filesystem::exists(folder / "target/planted"));
}

TEST(PrepareFolder, RefusesRelativePathsTheRootAndAFile) {
  const TemporaryFolder folder;
  EXPECT_FALSE(prepare_folder("state", "", "", 0750));
  EXPECT_FALSE(prepare_folder("/", "", "", 0755));
  EXPECT_FALSE(prepare_folder(folder / "a/../b", "", "", 0750));
  ASSERT_TRUE(base::write_file_atomic(folder / "file", "x", 0644));
  const auto outcome = prepare_folder(folder / "file", "", "", 0750);
  ASSERT_FALSE(outcome);
  EXPECT_THAT(outcome.error().message, HasSubstr("Not a directory"));
}

TEST(FindUser, TellsThatAUserOrGroupDoesNotExist) {
  EXPECT_EQ(find_user("no-such-user-here").error().code, Errc::not_found);
  EXPECT_EQ(find_group("no-such-group-here").error().code, Errc::not_found);
  EXPECT_EQ(find_user("root")->uid, 0U);
}

}  // namespace
}  // namespace daemoneye::sandbox
