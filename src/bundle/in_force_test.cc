// All or nothing: a bundle is put in force, taken back, and cut off at each step by kill -9.
#include "bundle/in_force.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "base/file.h"

namespace daemoneye::bundle {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class Placing : public testing::Test {
 protected:
  Placing() {
    char name[] = "/tmp/daemoneye-place-XXXXXX";
    root = ::mkdtemp(name);
    path = root + "/bundle";
  }
  ~Placing() override {
    std::error_code ignored;  // a folder that stays behind is no failure of a test
    fs::remove_all(root, ignored);
  }

  static InForce version(const std::string& text) {
    InForce about;
    about.id = "test";
    about.version = Version::parse(text).value();
    about.digest = "digest of " + text;
    about.imported = Timestamp{1'000'000'000};
    about.choices["rule a"] = {true, "abc"};
    return about;
  }
  static std::vector<PlacedFile> files(const std::string& text) {
    std::vector<PlacedFile> all = {{"both.yaml", text}};
    for (int i = 0; i < 5; ++i) all.push_back({text + '-' + std::to_string(i) + ".yaml", text});
    return all;
  }
  void put(const std::string& text, const Place::Step& step = {}) const {
    auto place = Place::claim(path);
    ASSERT_TRUE(place) << place.error().message;
    const auto done = place->put(version(text), files(text), step);
    ASSERT_TRUE(done) << done.error().message;
    place->forget_before();
  }
  // The version whose files, and no others, are in force; "none".
  std::string found() const {
    const auto about = read_in_force(path);
    EXPECT_TRUE(about) << about.error().message;
    if (!about || !*about) return "none";
    const auto text = (*about)->version.text();
    std::size_t count = 0;
    for (const auto& entry : fs::directory_iterator(path + "/current")) {
      const auto name = entry.path().filename().string();
      if (name == "bundle.json") continue;
      ++count;
      EXPECT_TRUE(name == "both.yaml" || name.starts_with(text + '-')) << name << " under " << text;
      EXPECT_EQ(base::read_file(entry.path(), 100).value(), text) << name;
    }
    EXPECT_EQ(count, files(text).size());
    return text;
  }

  std::string root, path;
};

TEST_F(Placing, PutsOneInPlaceOfTheOther) {
  EXPECT_EQ(found(), "none");
  ::umask(0077);
  put("1");
  ::umask(0022);
  EXPECT_EQ(found(), "1");
  struct stat status{};
  ASSERT_EQ(::stat((path + "/current/both.yaml").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0644U) << "the agent reads as another user";
  ASSERT_EQ(::stat((path + "/current").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0755U);
  put("2");
  EXPECT_EQ(found(), "2");
  EXPECT_FALSE(fs::exists(path + "/next"));
  const auto about = read_in_force(path).value().value();
  EXPECT_EQ(about.id, "test");
  EXPECT_EQ(about.digest, "digest of 2");
  ASSERT_TRUE(about.choices.contains("rule a"));
  EXPECT_TRUE(about.choices.at("rule a").take);
  EXPECT_EQ(about.choices.at("rule a").own, "abc");
}

TEST_F(Placing, TakesItBack) {
  auto place = Place::claim(path).value();
  ASSERT_TRUE(place.put(version("1"), files("1")));
  ASSERT_TRUE(place.take_back());
  EXPECT_EQ(found(), "none");
  ASSERT_TRUE(place.put(version("1"), files("1")));
  place.forget_before();
  ASSERT_TRUE(place.put(version("2"), files("2")));
  EXPECT_EQ(found(), "2");
  ASSERT_TRUE(place.take_back());
  EXPECT_EQ(found(), "1");
  EXPECT_FALSE(fs::exists(path + "/next"));
}

TEST_F(Placing, LeavesTheOldOneOrTheNewOneWhenItIsKilled) {
  for (const bool had_one : {false, true}) {
    for (const std::string at : {"begin", "written", "renamed"}) {
      fs::remove_all(path);
      if (had_one) put("1");
      const pid_t child = ::fork();
      if (child == 0) {
        auto place = Place::claim(path);
        if (place) {
          (void)place->put(version("2"), files("2"), [&](const char* name) {
            if (name == at) ::kill(::getpid(), SIGKILL);
          });
        }
        ::_exit(1);
      }
      int status = 0;
      ASSERT_EQ(::waitpid(child, &status, 0), child);
      ASSERT_TRUE(WIFSIGNALED(status)) << at;
      EXPECT_EQ(found(), at == "renamed" ? "2" : had_one ? "1" : "none") << at;
      put("3");  // what was left aside is in nobody's way
      EXPECT_EQ(found(), "3") << at;
      EXPECT_FALSE(fs::exists(path + "/next"));
    }
  }
}

TEST_F(Placing, ChangesNothingWhenAFileCannotBeWritten) {
  put("1");
  auto place = Place::claim(path).value();
  auto bad = files("2");
  bad.push_back({"both.yaml", "twice"});
  EXPECT_FALSE(place.put(version("2"), bad));
  EXPECT_EQ(found(), "1");
  EXPECT_FALSE(fs::exists(path + "/next"));
}

TEST_F(Placing, FollowsNoLink) {
  const std::string elsewhere = root + "/elsewhere";
  fs::create_directory(elsewhere);
  std::ofstream(elsewhere + "/precious") << "kept";
  fs::create_directory_symlink(elsewhere, path);
  EXPECT_THAT(Place::claim(path).error().message, HasSubstr("a link or a file stands"));
  fs::remove(path);
  put("1");
  for (const std::string name : {"next", "current"}) {
    fs::remove_all(path + '/' + name);
    fs::create_directory_symlink(elsewhere, path + '/' + name);
    const auto place = Place::claim(path);
    ASSERT_FALSE(place) << name;
    EXPECT_EQ(place.error().code, Errc::permission_denied) << name;
    fs::remove(path + '/' + name);
  }
  EXPECT_TRUE(fs::exists(elsewhere + "/precious"));
  // A link among the files that were left aside goes, not what it leads to.
  fs::create_directory(path + "/next");
  fs::create_symlink(elsewhere + "/precious", path + "/next/both.yaml");
  put("2");
  EXPECT_EQ(found(), "2");
  EXPECT_TRUE(fs::exists(elsewhere + "/precious"));
}

TEST_F(Placing, WantsAFolderThatOthersCannotWriteAndOneImportAtATime) {
  put("1");
  ::chmod(path.c_str(), 0777);
  EXPECT_EQ(Place::claim(path).error().code, Errc::permission_denied);
  ::chmod(path.c_str(), 0755);
  const auto first = Place::claim(path);
  ASSERT_TRUE(first);
  EXPECT_EQ(Place::claim(path).error().code, Errc::unavailable);
}

TEST_F(Placing, SaysWhenWhatIsThereIsDamaged) {
  put("1");
  std::ofstream(path + "/current/bundle.json") << "{}";
  EXPECT_EQ(read_in_force(path).error().code, Errc::corrupt);
}

}  // namespace
}  // namespace daemoneye::bundle
