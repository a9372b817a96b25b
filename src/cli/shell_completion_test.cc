#include "cli/shell_completion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace daemoneye::cli {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

std::vector<std::string> candidates(const std::string& text) { return complete(text).candidates; }

TEST(ShellCompletion, GivesTablesAfterFromAndJoin) {
  EXPECT_THAT(candidates("SELECT * FROM process_"), ElementsAre("process_events"));
  EXPECT_THAT(candidates("select * from "), Contains("ancestors("));
  EXPECT_THAT(candidates("SELECT 1 FROM scans s JOIN al"), ElementsAre("alert_deliveries", "alerts"));
  EXPECT_EQ(complete("SELECT * FROM process_").word_bytes, 8U);
}

TEST(ShellCompletion, GivesTheColumnsOfWhatIsNamed) {
  EXPECT_THAT(candidates("SELECT 1 FROM scans WHERE dur"), ElementsAre("duration_ms"));
  EXPECT_THAT(candidates("SELECT 1 FROM process_events e, scans AS s WHERE s.sc"), ElementsAre("scan_id"));
  EXPECT_THAT(candidates("SELECT e.parent_n"), IsEmpty());  // nobody knows yet what e is
  EXPECT_THAT(candidates("SELECT 1 FROM process_events e\nWHERE e.parent_n"), ElementsAre("parent_name"));
  EXPECT_THAT(candidates("SELECT 1 FROM scans WHERE scans."), Contains("lost_events"));
  EXPECT_THAT(candidates("SELECT exec"), Contains("executable_hash"));  // of any table, while none is named
}

TEST(ShellCompletion, GivesFunctionsAndKeywordsInTheLettersBegunWith) {
  EXPECT_THAT(candidates("SELECT has_"), ElementsAre("has_ancestor("));
  EXPECT_THAT(candidates("SEL"), ElementsAre("SELECT"));
  EXPECT_THAT(candidates("sel"), ElementsAre("select"));
  EXPECT_THAT(candidates("SELECT 1 "), IsEmpty());
  EXPECT_THAT(candidates("SELECT 'from "), Not(Contains("alerts")));
}

TEST(ShellCompletion, GivesCommandsAndTheirArguments) {
  EXPECT_THAT(candidates(".t"), ElementsAre(".tables", ".timing"));
  EXPECT_THAT(candidates(".schema sca"), ElementsAre("scans"));
  EXPECT_THAT(candidates(".mode j"), ElementsAre("json", "jsonl"));
  EXPECT_THAT(candidates(".timing "), ElementsAre("off", "on"));
}

TEST(ShellCompletion, FindsWhatAllBeginWith) {
  EXPECT_EQ(common_beginning({"alert_deliveries", "alerts"}), "alert");
  EXPECT_EQ(common_beginning({"a", "b"}), "");
  EXPECT_EQ(common_beginning({}), "");
}

}  // namespace
}  // namespace daemoneye::cli
