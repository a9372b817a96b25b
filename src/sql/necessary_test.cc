#include "sql/necessary.h"

#include <gtest/gtest.h>

#include "sql/sql.h"

namespace daemoneye::sql {
namespace {

std::string shown(const std::vector<NecessaryClause>& clauses) {
  std::string out;
  for (const auto& clause : clauses) {
    if (!out.empty()) out += " & ";
    std::string any;
    for (const auto& one : clause) {
      any += any.empty() ? "" : " | ";
      any += std::string(event::info(one.column).name);
      any += one.place == NecessaryText::Place::whole ? "=" : one.place == NecessaryText::Place::begin ? "^" : "~";
      if (one.any_case) any += 'i';
      if (one.beyond_ascii) any += 'u';
      any += one.text;
    }
    out += any;
  }
  return out;
}

std::string of_condition(const std::string& condition) {
  const auto compiled = compile("SELECT e.pid FROM process_events e WHERE " + condition);
  if (!compiled) return "refused: " + compiled.error().message;
  return shown(compiled->necessary());
}

TEST(NecessaryTexts, EachOperatorKeepsItsCaseRule) {
  EXPECT_EQ(of_condition("e.name = 'Bash'"), "name=Bash");
  EXPECT_EQ(of_condition("'Bash' = e.name"), "name=Bash");
  EXPECT_EQ(of_condition("e.name IS 'Bash'"), "name=Bash");
  EXPECT_EQ(of_condition("e.name = 'Bash' COLLATE NOCASE"), "name=ibash");
  EXPECT_EQ(of_condition("e.name COLLATE NOCASE = 'Bash'"), "name=ibash");
  EXPECT_EQ(of_condition("e.name COLLATE BINARY = 'Bash' COLLATE NOCASE"), "name=Bash");
  EXPECT_EQ(of_condition("e.name COLLATE RTRIM = 'Bash'"), "");
  EXPECT_EQ(of_condition("lower(e.name) = 'bash'"), "name=ibash");
  // A collation within a function is that of its result.
  EXPECT_EQ(of_condition("lower(e.name COLLATE RTRIM) = 'bash'"), "");
  EXPECT_EQ(of_condition("lower(upper(e.name COLLATE RTRIM)) IN ('bash', 'sh')"), "");
  EXPECT_EQ(of_condition("lower(e.name COLLATE RTRIM) = 'bash' COLLATE NOCASE"), "");
  EXPECT_EQ(of_condition("'bash' COLLATE RTRIM IS lower(e.name)"), "");
  EXPECT_EQ(of_condition("lower(e.name COLLATE NOCASE) IN ('Bash')"), "name=ibash");
  EXPECT_EQ(of_condition("lower(e.name COLLATE RTRIM) COLLATE BINARY IN ('bash')"), "name=ibash");
  EXPECT_EQ(of_condition("e.name IN ('sh', 'Bash', NULL)"), "name=Bash | name=sh");
  EXPECT_EQ(of_condition("e.name COLLATE NOCASE IN ('sh', 'Bash')"), "name=ibash | name=ish");
  EXPECT_EQ(of_condition("e.command_line LIKE '%NetCat%'"), "command_line~inetcat");
  EXPECT_EQ(of_condition("e.command_line GLOB '*NetCat*'"), "command_line~NetCat");
  EXPECT_EQ(of_condition("e.command_line REGEXP 'NetCat'"), "command_line~inetcat");
  EXPECT_EQ(of_condition("instr(e.command_line, 'NetCat') > 0"), "command_line~NetCat");
  EXPECT_EQ(of_condition("instr(e.command_line, 'NetCat')"), "command_line~NetCat");
}

TEST(NecessaryTexts, PatternsGiveTheirPlainRuns) {
  EXPECT_EQ(of_condition("e.command_line LIKE 'curl %|%shell'"),
            "command_line^icurl  & command_line~ishell & command_line~i|");
  EXPECT_EQ(of_condition("e.command_line LIKE '%100!%_a!!b%' ESCAPE '!'"), "command_line~i100% & command_line~ia!b");
  EXPECT_EQ(of_condition("e.command_line LIKE '%%' ESCAPE '%'"), "");
  EXPECT_EQ(of_condition("e.executable_path GLOB '/tmp/?[ab]secret'"), "executable_path^/tmp/");
  EXPECT_EQ(of_condition("e.command_line LIKE '%münchen%'"), "command_line~inchen & command_line~im");
  EXPECT_EQ(of_condition("e.command_line LIKE '%'"), "");
  EXPECT_EQ(of_condition("e.command_line LIKE '__%'"), "");
}

TEST(NecessaryTexts, RegularExpressionsGiveWhatRe2Knows) {
  EXPECT_EQ(of_condition("e.command_line REGEXP 'wget.*http'"), "command_line~ihttp & command_line~iwget");
  EXPECT_EQ(of_condition("e.command_line REGEXP '\\b(nc|ncat)\\b'"), "command_line~inc");
  EXPECT_EQ(of_condition("e.command_line REGEXP '\\b(nc|socat)\\b'"), "command_line~inc | command_line~isocat");
  EXPECT_EQ(of_condition("e.command_line REGEXP '[0-9]+'"), "");
  EXPECT_EQ(of_condition("e.command_line REGEXP 'a|.*'"), "");
  EXPECT_EQ(of_condition("e.name REGEXP '(?i)^SH$'"), "name~ish");
  // Beyond ASCII a letter has other bytes in its other case: only what is beside it can be looked for.
  EXPECT_EQ(of_condition("e.name REGEXP '(?i)MÜNCHEN'"), "name~iunchen");
  EXPECT_EQ(of_condition("e.name REGEXP 'ä'"), "name~iu");
}

TEST(NecessaryTexts, AndAddsClausesOrUnitesThem) {
  EXPECT_EQ(of_condition("e.kind = 'exec' AND e.name = 'nc'"), "name=nc & kind=exec");
  EXPECT_EQ(of_condition("e.name = 'nc' OR e.name = 'ncat'"), "name=nc | name=ncat");
  EXPECT_EQ(of_condition("e.name = 'nc' OR e.uid = 0"), "");
  EXPECT_EQ(of_condition("(e.name = 'sh' AND e.command_line LIKE '%wget%') OR (e.name = 'tee' AND e.command_line "
                         "LIKE '%passwd%')"),
            "name=sh | name=tee & command_line~ipasswd | command_line~iwget");
  EXPECT_EQ(of_condition("NOT e.name = 'x'"), "");
  EXPECT_EQ(of_condition("e.name NOT IN ('x') AND e.name NOT LIKE 'abc'"), "");
  EXPECT_EQ(of_condition("e.name <> 'x'"), "");
  EXPECT_EQ(of_condition("e.name IN ('x', e.comm)"), "");
  EXPECT_EQ(of_condition("e.uid = 0 AND e.pid IN (1, 2)"), "");
  EXPECT_EQ(of_condition("e.name = 'a' || 'b'"), "");
}

TEST(NecessaryTexts, OnlyTheDrivingRowCounts) {
  const auto compiled = compile(
      "SELECT e.pid FROM process_events e JOIN processes p ON p.process_key = e.parent_key AND e.name = 'sh' "
      "WHERE p.name = 'nginx' AND e.command_line IN (SELECT q.command_line FROM processes q WHERE q.name = 'x')");
  ASSERT_TRUE(compiled) << compiled.error().message;
  EXPECT_EQ(shown(compiled->necessary()), "name=sh");
  const auto outer = compile(
      "SELECT e.pid FROM process_events e LEFT JOIN processes p ON p.process_key = e.parent_key AND e.name = 'sh'");
  ASSERT_TRUE(outer) << outer.error().message;
  EXPECT_EQ(shown(outer->necessary()), "");
  // The status of an ended instance is not what its event has.
  const auto ended = compile("SELECT p.pid FROM processes p WHERE p.status = 'exited' AND p.name = 'x'");
  ASSERT_TRUE(ended) << ended.error().message;
  EXPECT_EQ(shown(ended->necessary()), "name=x");
}

TEST(NecessaryTexts, AnExceptionChangesNothing) {
  const auto compiled = compile_with_exceptions("SELECT e.pid, e.name FROM process_events e WHERE e.name = 'sh'",
                                                {"e.command_line LIKE '%backup%'"});
  ASSERT_TRUE(compiled) << compiled.error().message;
  EXPECT_EQ(shown(compiled->necessary()), "name=sh");
}

TEST(NecessaryTexts, ClausesAreBounded) {
  std::string many, regexp;
  for (int i = 0; i < 999; ++i) many += "'name-" + std::to_string(i) + "', ";
  for (int i = 0; i < 900; ++i)
    regexp += (i == 0 ? "" : "|") + std::string(1, static_cast<char>('a' + i % 26)) + std::to_string(i * 7919);
  const auto compiled = compile("SELECT e.pid FROM process_events e WHERE e.name IN (" + many + "'z') OR e.name IN (" +
                                many + "'y') OR e.name LIKE '%" + std::string(5000, 'x') + "%'");
  ASSERT_TRUE(compiled) << compiled.error().message;
  EXPECT_EQ(compiled->necessary().size(), 0U);
  EXPECT_EQ(of_condition("e.name REGEXP '" + regexp + "'"), "");
  EXPECT_EQ(of_condition("e.name LIKE '%" + std::string(5000, 'x') + "%'"),
            "name~i" + std::string(max_necessary_text_bytes, 'x'));
}

}  // namespace
}  // namespace daemoneye::sql
