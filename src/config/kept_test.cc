#include "config/kept.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/test_support.h"

namespace daemoneye::config {
namespace {

using testing::IsEmpty;

class KeptConfiguration : public testing::Test {
 protected:
  Loaded with(const std::string& yaml) {
    auto sources = no_sources(folder);
    sources.config_file = folder.write("given.yaml", yaml);
    auto loaded = load(sources);
    EXPECT_TRUE(loaded) << texts(loaded.error());
    return loaded ? *loaded : Loaded{};
  }
  TemporaryFolder folder;
  const std::string path = folder.path() + "/" + kept_file_name;
};

TEST_F(KeptConfiguration, IsTheSameWhenItIsReadAgain) {
  const auto loaded = with(
      "app: {state_dir: '/srv/a: b'}\ncollection: {exclude: [\"name = 'x # y'\"]}\nmetrics: {listen: 127.0.0.1:9100}\n"
      "alerting:\n  sinks:\n    - {type: webhook, url: 'https://x/?t=1', min_severity: high}\n    - {type: stdout}\n");
  ASSERT_TRUE(keep(path, loaded));
  const auto kept = read_kept(path);
  ASSERT_TRUE(kept);
  EXPECT_THAT(differences(*kept, loaded.settings), IsEmpty());
  struct stat status{};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U) << "an address may hold a token";
}

TEST_F(KeptConfiguration, TellsWhatChangedSince) {
  ASSERT_TRUE(keep(path, with("app: {batch_size: 10}")));
  const auto now = with("app: {batch_size: 20}\ncollection: {mask_arguments: false}\n");
  const auto kept = read_kept(path);
  ASSERT_TRUE(kept);
  const auto found = differences(*kept, now.settings);
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].key, "app.batch_size");
  EXPECT_EQ(found[0].before, "10");
  ASSERT_EQ(weakenings(*kept, now.settings).size(), 1U);
}

TEST_F(KeptConfiguration, IsNothingWhenItIsNotThereOrNotUnderstood) {
  EXPECT_FALSE(read_kept(path));
  folder.write(kept_file_name, "app: {batch_size: 10, of_a_later_version: 1}\n");
  EXPECT_FALSE(read_kept(path));
  folder.write(kept_file_name, std::string(2 * 1024 * 1024, '#'));
  EXPECT_FALSE(read_kept(path));
}

}  // namespace
}  // namespace daemoneye::config
