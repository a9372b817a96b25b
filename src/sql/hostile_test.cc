// tests/data/sql/attacks.txt: every attack is refused or bounded, each in the way the file says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "base/text.h"
#include "sql/test_store.h"

namespace daemoneye::sql {
namespace {

struct Attack {
  int line = 0;
  std::string outcome, said, text;
};

// <N:part> is `part` N times, \0 a NUL byte, \n the end of a line.
std::string expanded(std::string_view pattern) {
  std::string out;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const auto rest = pattern.substr(i);
    const auto colon = rest.find(':'), end = rest.find('>', 1);
    const auto count = rest.starts_with('<') && colon < end && end != std::string_view::npos
                           ? base::parse_integer<std::size_t>(rest.substr(1, colon - 1))
                           : std::nullopt;
    if (count) {
      for (std::size_t n = 0; n < *count; ++n) out += rest.substr(colon + 1, end - colon - 1);
      i += end;
    } else if (rest.starts_with("\\0") || rest.starts_with("\\n")) {
      out += rest[1] == '0' ? '\0' : '\n';
      ++i;
    } else {
      out += pattern[i];
    }
  }
  return out;
}

std::vector<Attack> read_attacks() {
  std::ifstream file(DAEMONEYE_SOURCE_DIR "/tests/data/sql/attacks.txt");
  std::vector<Attack> attacks;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    if (line.empty() || line.starts_with('#')) continue;
    const auto first = line.find('|'), second = line.find('|', first + 1);
    const std::string_view all = line;
    attacks.push_back({number, std::string(base::trim(all.substr(0, first))),
                       std::string(base::trim(all.substr(first + 1, second - first - 1))),
                       expanded(base::trim(all.substr(second + 1)))});
  }
  return attacks;
}

TEST(Hostile, EveryAttackIsRefusedOrBoundedAsTheFileSays) {
  const auto attacks = read_attacks();
  ASSERT_GT(attacks.size(), 150U);
  const test::TemporaryFolder folder;
  const auto history = test::make_history(200, 3);
  test::fill_store(folder / "events.redb", history);
  auto opened = Connection::open(folder / "events.redb", "");
  ASSERT_TRUE(opened) << opened.error().message;
  Connection& connection = **opened;
  const auto rows = [&] {
    std::uint64_t count = 0;
    const auto compiled = compile("SELECT count(*) FROM process_events");
    EXPECT_TRUE(connection.run(*compiled, {}, [&](const Row& row) {
      count = static_cast<std::uint64_t>(std::get<std::int64_t>(row[0]));
      return true;
    }));
    return count;
  };

  for (const auto& attack : attacks) {
    SCOPED_TRACE("attacks.txt:" + std::to_string(attack.line) + ": " + base::printable(attack.text.substr(0, 200)));
    const auto compiled = compile(attack.text);
    if (attack.outcome == "refused") {
      ASSERT_FALSE(compiled) << compiled->sql();
      EXPECT_THAT(compiled.error().message, ::testing::HasSubstr(attack.said));
      EXPECT_LE(to_string(compiled.error(), attack.text).size(), 2048U);  // whatever was said is short
      continue;
    }
    ASSERT_TRUE(compiled) << compiled.error().message;
    RunOptions options;
    // What ends by its own bound has the time it takes; what does not has little.
    options.deadline =
        Deadline::after(attack.outcome == "timeout" ? std::chrono::milliseconds(60) : std::chrono::minutes(4));
    const auto stats = connection.run(*compiled, options, [](const Row&) { return true; });
    if (attack.outcome == "done") {
      EXPECT_TRUE(stats) << stats.error().message;
    } else {
      ASSERT_FALSE(stats);
      std::string outcome(base::to_string(stats.error().code));
      std::ranges::replace(outcome, ' ', '_');
      EXPECT_EQ(outcome, attack.outcome) << stats.error().message;
      EXPECT_THAT(stats.error().message, ::testing::HasSubstr(attack.said));
    }
  }
  // And nothing of it was left behind.
  EXPECT_EQ(rows(), history.size());
}

}  // namespace
}  // namespace daemoneye::sql
