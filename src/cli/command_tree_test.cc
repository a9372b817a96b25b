// The scripts themselves are run by their shells in tests/functional/scenarios_install.py.
#include "cli/command_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "cli/cli.h"

namespace daemoneye::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

Command small_program() {
  const Parameter severity{.names = {"--severity"},
                           .value = "low|high",
                           .help = "How bad; don't guess",
                           .fallback = "low",
                           .kind = ValueKind::choice,
                           .choices = {"low", "high"}};
  const Parameter yes{.names = {"-y", "--yes"}, .help = "Do not ask"};
  const Parameter rule{.names = {"RULE"},
                       .value = "RULE",
                       .help = "Its id",
                       .required = true,
                       .repeated = true,
                       .kind = ValueKind::rule};
  const Command change{.path = "rules change",
                       .name = "change",
                       .help = "Change a rule",
                       .options = {severity, yes},
                       .operands = {rule}};
  const Command rules{.path = "rules", .name = "rules", .help = "Rules", .verbs = {change}};
  const Parameter config{.names = {"--config"}, .value = "FILE", .help = "A file", .kind = ValueKind::file};
  return {.name = "daemoneye-cli", .help = "Asks", .options = {config}, .verbs = {rules}};
}

TEST(Completion, IsThereForThreeShellsOnly) {
  for (const auto* shell : completion_shells) {
    const auto script = completion_script(small_program(), shell);
    ASSERT_TRUE(script) << shell;
    EXPECT_THAT(*script, HasSubstr("rules change")) << shell;
    EXPECT_THAT(*script, Not(HasSubstr("@"
                                       "P")))
        << "a mark that was not replaced in " << shell;
  }
  EXPECT_FALSE(completion_script(small_program(), "tcsh"));
}

TEST(Completion, QuotesWhatHelpTextsSay) {
  EXPECT_THAT(*completion_script(small_program(), "zsh"), HasSubstr("'--severity:How bad; don'\\''t guess'"));
  EXPECT_THAT(*completion_script(small_program(), "fish"), HasSubstr("-d 'How bad; don\\'t guess'"));
}

TEST(CommandReference, SaysHowACommandIsCalled) {
  const auto page = command_reference(small_program());
  EXPECT_THAT(page,
              HasSubstr("### rules change\n\n    daemoneye-cli rules change [OPTIONS] RULE...\n\nChange a rule.\n"));
  EXPECT_THAT(page, HasSubstr("| `--severity low\\|high` | How bad; don't guess; default: `low` |"));
  EXPECT_THAT(page, HasSubstr("| `-y, --yes` | Do not ask |"));
}

TEST(CommandReference, IsTheCheckedInOne) {
  const std::string path = std::string(DAEMONEYE_SOURCE_DIR) + "/docs/commands.md";
  if (std::getenv("DAEMONEYE_WRITE_REFERENCE") != nullptr) std::ofstream(path) << command_reference();
  std::stringstream there;
  there << std::ifstream(path).rdbuf();
  EXPECT_EQ(there.str(), command_reference()) << "run DAEMONEYE_WRITE_REFERENCE=1 cli_test to write it again";
}

}  // namespace
}  // namespace daemoneye::cli
