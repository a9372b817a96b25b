#include "config/edit_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>

#include "base/file.h"
#include "config/test_support.h"

namespace daemoneye::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class EditFile : public testing::Test {
 protected:
  static EditedFile must_open(const std::string& path) {
    auto file = EditedFile::open(path);
    EXPECT_TRUE(file) << file.error().message;
    return *std::move(file);
  }
  static std::string read(const std::string& path) { return base::read_file(path, 1 << 20).value_or("(none)"); }
  [[nodiscard]] std::set<std::string> names() const {
    std::set<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(folder.path())) found.insert(entry.path().filename());
    return found;
  }

  TemporaryFolder folder;
};

TEST_F(EditFile, ReplacesTheTextAndKeepsModeAndOwner) {
  const auto path = folder.write("c.yaml", "old");
  ::chmod(path.c_str(), 0640);
  if (::geteuid() == 0) {
    ASSERT_EQ(::chown(path.c_str(), 1234, 2345), 0);
  }
  auto file = must_open(path);
  EXPECT_EQ(file.text(), "old");
  ASSERT_TRUE(file.replace("new"));
  EXPECT_EQ(read(path), "new");
  struct stat status{};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0640U);
  if (::geteuid() == 0) {
    EXPECT_EQ(status.st_uid, 1234U);
    EXPECT_EQ(status.st_gid, 2345U);
  }
  EXPECT_THAT(names(), ElementsAre("c.yaml"));
}

TEST_F(EditFile, MakesAFileAndItsFoldersThatWereNotThere) {
  const auto path = folder.path() + "/a/b/c.yaml";
  auto file = must_open(path);
  EXPECT_TRUE(file.is_new());
  ASSERT_TRUE(file.replace("new", 0600, 0700));
  EXPECT_EQ(read(path), "new");
  struct stat status{};
  ASSERT_EQ(::stat((folder.path() + "/a/b").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0700U);
}

TEST_F(EditFile, FollowsALinkAndLeavesItALink) {
  const auto real = folder.write("real.yaml", "old");
  const auto link = folder.path() + "/link.yaml";
  ASSERT_EQ(::symlink("real.yaml", link.c_str()), 0);
  ASSERT_TRUE(must_open(link).replace("new"));
  EXPECT_EQ(read(real), "new");
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  ASSERT_EQ(::symlink("nowhere", (folder.path() + "/dangling").c_str()), 0);
  EXPECT_THAT(EditedFile::open(folder.path() + "/dangling").error().message, HasSubstr("leads nowhere"));
}

TEST_F(EditFile, RefusesWhatIsNoPlainFileOfOneName) {
  EXPECT_FALSE(EditedFile::open(folder.path()));
  const auto path = folder.write("c.yaml", "old");
  ASSERT_EQ(::link(path.c_str(), (folder.path() + "/other").c_str()), 0);
  EXPECT_THAT(EditedFile::open(path).error().message, HasSubstr("more than one name"));
  const auto pipe = folder.path() + "/pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(EditedFile::open(pipe).error().message, HasSubstr("not a plain file"));
}

TEST_F(EditFile, WritesOverNothingThatSomebodyElseWroteMeanwhile) {
  const auto path = folder.write("c.yaml", "old");
  auto in_place = must_open(path);
  folder.write("c.yaml", "their text");
  EXPECT_EQ(in_place.replace("new").error().code, Errc::cancelled);
  EXPECT_EQ(read(path), "their text");

  auto by_rename = must_open(path);
  folder.write("beside", "their text");
  ASSERT_EQ(::rename((folder.path() + "/beside").c_str(), path.c_str()), 0);
  EXPECT_EQ(by_rename.replace("new").error().code, Errc::cancelled);

  auto gone = must_open(path);
  ASSERT_EQ(::unlink(path.c_str()), 0);
  EXPECT_EQ(gone.replace("new").error().code, Errc::cancelled);

  auto fresh = must_open(path);
  folder.write("c.yaml", "their text");
  EXPECT_EQ(fresh.replace("new").error().code, Errc::cancelled);
  EXPECT_EQ(read(path), "their text");
  EXPECT_THAT(names(), ElementsAre("c.yaml"));  // nothing is left behind
}

// In a process of its own, which may lose its rights: exits 0 when `good`.
template <class Check>
int in_child(Check good) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(good() ? 0 : 1);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_F(EditFile, LeavesTheOldTextWhenTheDiskIsFull) {
  const auto path = folder.write("c.yaml", "old");
  EXPECT_EQ(in_child([&] {
              ::signal(SIGXFSZ, SIG_IGN);
              const rlimit limit{10, 10};  // stands for a disk with so much room
              ::setrlimit(RLIMIT_FSIZE, &limit);
              auto file = EditedFile::open(path);
              return file && !file->replace(std::string(100, 'x'));
            }),
            0);
  EXPECT_EQ(read(path), "old");
  EXPECT_THAT(names(), ElementsAre("c.yaml"));
}

TEST_F(EditFile, SaysThatAFolderMayNotBeWritten) {
  const auto path = folder.write("c.yaml", "old");
  ::chmod(folder.path().c_str(), 0555);
  EXPECT_EQ(in_child([&] {
              if (::geteuid() == 0 && ::setuid(65534) != 0) return false;
              auto file = EditedFile::open(path);
              if (!file) return false;
              const auto put = file->replace("new");
              return !put && put.error().code == Errc::permission_denied;
            }),
            0);
  ::chmod(folder.path().c_str(), 0755);
  EXPECT_EQ(read(path), "old");
}

class Layer : public testing::Test {
 protected:
  std::string chosen(const std::string& key, std::optional<std::string> wanted = std::nullopt) {
    const auto file = layer_for(sources, key, wanted);
    return file ? file->path : file.error().message;
  }
  TemporaryFolder folder;
  Sources sources = no_sources(folder);
  const std::string etc = folder.path() + "/etc";
  const std::string own = folder.path() + "/home/.config/daemoneye/config.yaml";
};

TEST_F(Layer, IsOnesOwnFileForAUserAndTheSystemsForRoot) {
  EXPECT_EQ(chosen("app.batch_size"), own);
  sources.privileged = true;
  EXPECT_EQ(chosen("app.batch_size"), etc + "/config.yaml");
}

TEST_F(Layer, IsForRootTheStrongestThatHasTheKey) {
  sources.privileged = true;
  folder.write("etc/config.yaml", "app: {batch_size: 1}\n");
  folder.write("etc/config.d/10-a.yaml", "app:\n  batch_size: 2\n");
  folder.write("etc/config.d/20-b.yaml", "app:\n  user: x\n");
  EXPECT_EQ(chosen("app.batch_size"), etc + "/config.d/10-a.yaml");
  EXPECT_EQ(chosen("app.user"), etc + "/config.d/20-b.yaml");
  EXPECT_EQ(chosen("app.memory_budget_mb"), etc + "/config.yaml");
}

TEST_F(Layer, IsTheNamedFileWhenItIsOneOfTheConfiguration) {
  folder.write("etc/config.d/10-a.yaml", "");
  EXPECT_EQ(chosen("app.user", etc + "/config.d/10-a.yaml"), etc + "/config.d/10-a.yaml");
  EXPECT_EQ(chosen("app.user", etc + "/config.d/new.yaml"), etc + "/config.d/new.yaml");
  EXPECT_THAT(chosen("app.user", etc + "/config.d/new.yml"), HasSubstr("no file of this configuration; allowed: "));
  EXPECT_THAT(chosen("app.user", "/etc/passwd"), HasSubstr("no file of this configuration"));
  sources.config_file = folder.path() + "/given.yaml";
  EXPECT_EQ(chosen("app.user"), folder.path() + "/given.yaml");
  EXPECT_THAT(chosen("app.user", etc + "/config.yaml"), HasSubstr("no file of this configuration"));
}

TEST_F(Layer, ATextStandsInForAFileThatIsThereOrNot) {
  sources.privileged = false;
  sources.instead[etc + "/config.yaml"] = "app: {batch_size: 5}\n";
  sources.instead[etc + "/config.d/new.yaml"] = "app: {user: bob}\n";
  sources.instead[own] = "app: {memory_budget_mb: 77}\n";
  const auto loaded = load(sources);
  ASSERT_TRUE(loaded) << texts(loaded.error());
  EXPECT_EQ(loaded->settings.app.batch_size, 5U);
  EXPECT_EQ(loaded->settings.app.user, "bob");
  EXPECT_EQ(loaded->settings.app.memory_budget_mb, 77U);
  EXPECT_EQ(loaded->origin.at("app.user"), etc + "/config.d/new.yaml:1");
}

}  // namespace
}  // namespace daemoneye::config
