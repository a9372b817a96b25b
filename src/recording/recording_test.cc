#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <set>

#include "base/text.h"
#include "event/columns.h"
#include "event/testing/random_event.h"
#include "recording/import.h"
#include "recording/line_parser.h"
#include "recording/line_writer.h"
#include "store/check.h"
#include "store/store_file.h"
#include "store/testing/temp_store.h"

namespace daemoneye::recording {
namespace {

using event::Column;
using event::EventKind;
using store::testing::TempFolder;
using testing::HasSubstr;

class Parsing : public testing::Test {
 protected:
  const event::ProcessEvent& good(std::string line) {
    static const event::ProcessEvent none;
    const auto parsed = parse(line);
    EXPECT_TRUE(parsed) << line << ": " << parsed.error().message;
    return parsed ? **parsed : none;
  }
  std::string bad(std::string line) {
    const auto parsed = parse(line);
    EXPECT_FALSE(parsed) << line;
    if (parsed) return "";
    EXPECT_EQ(parsed.error().code, Errc::invalid_input);
    return parsed.error().message;
  }
  // With these members after what every line needs.
  static std::string with(const std::string& members) {
    return R"({"time":5,"kind":"exec","pid":7)" + (members.empty() ? "" : "," + members) + "}";
  }

 private:
  Result<const event::ProcessEvent*> parse(std::string& line) {
    const auto size = line.size();
    line.append(line_padding, '}');
    auto parsed = parser_.parse(std::string_view(line).substr(0, size));
    line.resize(size);
    return parsed;
  }
  LineParser parser_;
};

TEST_F(Parsing, TheLeastThatALineNeeds) {
  const auto event = good(with(""));
  EXPECT_EQ(event.time.ns, 5);
  EXPECT_EQ(event.source, event::EventSource::import);
  EXPECT_EQ(event.process.key, (event::ProcessKey{{}, 7, 0}));
  EXPECT_EQ(event.process.collection_time.ns, 5);
  EXPECT_EQ(event.process.status, event::ProcessStatus::running);
  for (const auto& column : event::columns()) {
    const auto value = event::column_value(event, 1, column.column);
    const bool expected = column.column == Column::event_id || column.column == Column::time ||
                          column.column == Column::kind || column.column == Column::source ||
                          column.column == Column::process_key || column.column == Column::pid ||
                          column.column == Column::status || column.column == Column::collection_time;
    EXPECT_EQ(!std::holds_alternative<std::monostate>(value), expected) << column.name;
  }
  EXPECT_EQ(good(R"({"time":1,"kind":"exit","pid":7})").process.status, event::ProcessStatus::exited);
  EXPECT_EQ(good(with(R"("start_time":20000000)")).process.key.start_ticks, 2U);
  EXPECT_EQ(good(R"({"time":1,"kind":"exec","process_key":"000102030405060708090a0b0c0d0e0f-9-77"})").process.key,
            (event::ProcessKey{{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, 9, 77}));
  EXPECT_THAT(bad(R"({"kind":"exec","pid":7})"), HasSubstr("time: missing"));
  EXPECT_THAT(bad(R"({"time":null,"kind":"exec","pid":7})"), HasSubstr("time: missing"));
  EXPECT_THAT(bad(R"({"time":1,"pid":7})"), HasSubstr("kind: missing"));
  EXPECT_THAT(bad(R"({"time":1,"kind":"exec"})"), HasSubstr("process_key and pid"));
}

TEST_F(Parsing, NothingOfOneLineStaysForTheNext) {
  EXPECT_TRUE(good(with(R"("uid":3,"name":"a","arguments":["x"],"detail":{"n":1},"parent_name":"p")")).process.uid);
  const auto next = good(with(""));
  EXPECT_EQ(next.process, [] {
    event::ProcessInfo process;
    process.key.pid = 7;
    process.collection_time.ns = 5;
    return process;
  }());
  EXPECT_TRUE(next.detail.empty());
  EXPECT_FALSE(next.parent_name);
  good(with(R"("command_line":"a b")"));
  EXPECT_FALSE(good(with("")).process.arguments);
  bad(with(R"("uid":3,"gid":"x")"));
  EXPECT_FALSE(good(with("")).process.uid) << "nor of a bad one";
}

TEST_F(Parsing, TimesAreIntegersOrIso) {
  EXPECT_EQ(good(R"({"time":"2026-11-22T01:00:00.5Z","kind":"exec","pid":1})").time.ns, 1'795'309'200'500'000'000);
  EXPECT_EQ(good(with(R"("exit_time":-3)")).process.exit_time->ns, -3);
  for (const auto* text :
       {"2026-11-22T01:00:00.500000000Z", "2026-11-22T01:00:59.999999999Z", "2026-11-22T01:00:07.000000001Z",
        "2026-11-22T01:01:07.000000001Z", "2026-11-22T01:01:08.00000+01:00", "1969-11-22T01:01:08.123456789Z"}) {
    for (int twice = 0; twice < 2; ++twice) {
      EXPECT_EQ(good(with(R"("exit_time":")" + std::string(text) + '"')).process.exit_time, *base::parse_iso(text));
    }
  }
  for (const auto* text : {"2026-11-22T01:01:60.500000000Z", "2026-11-22T01:01:0:.500000000Z",
                           "2026-11-22T01:01:00.50000000/Z", "2026-11-22T01:01:00,500000000Z"}) {
    bad(with(R"("exit_time":")" + std::string(text) + '"'));
  }
  EXPECT_THAT(bad(R"({"time":1.5,"kind":"exec","pid":1})"), HasSubstr("time: wanted Unix nanoseconds or an ISO"));
  EXPECT_THAT(bad(R"({"time":"noon","kind":"exec","pid":1})"), HasSubstr("\"noon\""));
}

TEST_F(Parsing, ArgumentsAndCommandLineSayTheSame) {
  const std::vector<std::string> list = {"sh", "-c", "id x", ""};
  EXPECT_EQ(good(with(R"("arguments":["sh","-c","id x",""])")).process.arguments, event::Arguments::from_list(list));
  EXPECT_EQ(good(with(R"("arguments":"[\"sh\",\"-c\",\"id x\",\"\"]","command_line":"sh -c id x ")")).process.arguments,
            event::Arguments::from_list(list));
  EXPECT_EQ(good(with(R"("command_line":"a  b")")).process.arguments->command_line(), "a  b");
  EXPECT_EQ(good(with(R"("arguments":[],"command_line":"")")).process.arguments, event::Arguments());
  EXPECT_THAT(bad(with(R"("arguments":["a"],"command_line":"b")")), HasSubstr("command_line: wanted the arguments"));
  EXPECT_THAT(bad(with(R"("arguments":["a",1])")), HasSubstr("arguments: wanted a list of texts"));
  EXPECT_THAT(bad(with(R"("arguments":["a\u0000b"])")), HasSubstr("without NUL"));
  EXPECT_THAT(bad(with(R"("arguments":"a b")")), HasSubstr("arguments: wanted a list"));
  EXPECT_THAT(bad(with(R"("arguments":[")" + std::string(70'000, 'x') + "\"]")), HasSubstr("at most 65536 bytes"));
}

TEST_F(Parsing, MistakesNameTheKeyAndWhatIsWanted) {
  EXPECT_THAT(bad(with(R"("comand_line":"x")")), HasSubstr("unknown key 'comand_line'; did you mean command_line?"));
  EXPECT_THAT(bad(with(R"("uid":"0")")), HasSubstr("uid: wanted an integer from 0 to 4294967295, found \"0\""));
  EXPECT_THAT(bad(with(R"("uid":-1)")), HasSubstr("found -1"));
  EXPECT_THAT(bad(with(R"("uid":4294967296)")), HasSubstr("found 4294967296"));
  EXPECT_THAT(bad(with(R"("memory_usage":9223372036854775808)")), HasSubstr("memory_usage: wanted an integer"));
  EXPECT_THAT(bad(with(R"("name":7)")), HasSubstr("name: wanted a text"));
  EXPECT_THAT(bad(with(R"("cpu_usage":"much")")), HasSubstr("cpu_usage: wanted a number"));
  EXPECT_THAT(bad(with(R"("executable_hash":"ABC")")), HasSubstr("64 lower-case hex"));
  EXPECT_THAT(bad(with(R"("executable_state":"fine")")), HasSubstr("wanted one of ok, deleted"));
  EXPECT_THAT(bad(with(R"("parent_key":"x-1-2")")), HasSubstr("parent_key: wanted a process key"));
  EXPECT_THAT(bad(with(R"("parent_key":"00000000000000000000000000000000-01-2")")), HasSubstr("a process key"));
  EXPECT_THAT(bad(with(R"("process_key":"00000000000000000000000000000000-8-2")")),
              HasSubstr("that of process_key, 8"));
  EXPECT_THAT(bad(with(R"("detail":[1])")), HasSubstr("detail: wanted an object"));
  EXPECT_THAT(bad(with(R"("detail":"no")")), HasSubstr("detail: wanted an object"));
  EXPECT_THAT(bad(with(R"("uid":1,"uid":2)")), HasSubstr("uid: given twice"));
  EXPECT_THAT(bad(with(R"("name":")" + std::string(70'000, 'x') + '"')), HasSubstr("found 70000 bytes"));
  EXPECT_THAT(bad("[1]"), HasSubstr("not an object"));
  EXPECT_THAT(bad(R"({"time":1)"), HasSubstr("not JSON"));
  EXPECT_THAT(bad(with("") + with("")), HasSubstr("not JSON"));
  EXPECT_THAT(bad(with("\"name\":\"\xff\"")), HasSubstr("not JSON"));
  EXPECT_THAT(bad(std::string(1000, '[')), HasSubstr("not JSON"));
}

TEST_F(Parsing, GapsConcernNoProcess) {
  const auto gap = good(R"({"time":9,"kind":"gap","detail":{"reason":"events_lost","from":1,"to":2,"count":3}})");
  EXPECT_EQ(gap.kind, EventKind::gap);
  EXPECT_EQ(*event::parse_gap(gap.detail), (event::Gap{"events_lost", Timestamp{1}, Timestamp{2}, 3}));
  EXPECT_THAT(bad(R"({"time":9,"kind":"gap","pid":1,"detail":{"reason":"x","from":1,"to":2}})"),
              HasSubstr("pid: a gap concerns no process"));
  EXPECT_THAT(bad(R"({"time":9,"kind":"gap"})"), HasSubstr("detail: wanted what a gap spans"));
}

Input from_text(std::string name, std::string text, std::size_t piece = 1 << 20) {
  auto at = std::make_shared<std::size_t>(0);
  return {std::move(name), [text = std::move(text), at, piece](char* buffer, std::size_t size) -> Result<std::size_t> {
            const auto got = std::min({size, piece, text.size() - *at});
            std::memcpy(buffer, text.data() + *at, got);
            *at += got;
            return got;
          }};
}

std::string line(int pid) {
  return R"({"time":)" + std::to_string(pid) + R"(,"kind":"exec","pid":)" + std::to_string(pid) + "}\n";
}

class Importing : public testing::Test {
 protected:
  std::string target() { return folder_.path() + "/x/recording.redb"; }
  Result<ImportReport> run(std::vector<Input> inputs, bool strict = false) {
    ImportOptions options;
    options.into = target();
    options.strict = strict;
    bad_.clear();
    options.bad_line = [&](const BadLine& bad) { bad_.push_back(to_string(bad)); };
    return import_recording(inputs, options);
  }
  std::vector<std::string> exported(const std::string& path) {
    auto reader = store::Reader::open(path);
    EXPECT_TRUE(reader) << reader.error().message;
    store::ScanRequest request;
    request.columns = line_columns();
    auto scan = *(*reader)->scan(request);
    std::vector<std::string> lines;
    while (*scan->next()) append_line(*scan, {}, lines.emplace_back());
    return lines;
  }
  std::size_t count() { return store::testing::ids(**store::Reader::open(target())).size(); }
  std::vector<std::string> files() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path() + "/x"))
      names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }
  TempFolder folder_;
  std::vector<std::string> bad_;
};

TEST_F(Importing, MakesOneFileWithBatchesThatCheck) {
  std::string text;
  for (int i = 1; i <= 30'000; ++i) text += line(i);
  text += R"({"time":9,"kind":"gap","detail":{"reason":"events_lost","from":1,"to":2,"count":3}})";  // no line end
  const auto report = run({from_text("a", text, 777)});
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->imported, 30'001U);
  EXPECT_EQ(report->gaps, 1U);
  EXPECT_EQ(report->bytes, text.size());
  EXPECT_THAT(files(), testing::UnorderedElementsAre("recording.redb", "recording.redb.lock", "recording.redb.writer"));
  const auto checked = store::check_store(target(), {});
  ASSERT_TRUE(checked);
  EXPECT_EQ(checked->damages, 0U);
  EXPECT_EQ(checked->events, 30'001U);
  EXPECT_GE(checked->blocks, 2U) << "sealed like what was collected";
  const auto reader = *store::Reader::open(target());
  ASSERT_TRUE(reader->batches([](const auto& batch) {
    EXPECT_EQ(batch.id.source, "import");
    return true;
  }));
  EXPECT_FALSE(reader->completeness({Timestamp{1}, Timestamp{2}}, base::wall_now())->complete()) << "a gap is a gap";
  EXPECT_TRUE(reader->completeness({Timestamp{5}, {}}, base::wall_now())->complete()) << "and nothing else is missing";
}

TEST_F(Importing, AppendsWithAnEpochOfItsOwn) {
  ASSERT_TRUE(run({from_text("a", line(1))}));
  ASSERT_TRUE(run({from_text("a", line(1)), from_text("b", line(2))}));
  EXPECT_EQ(count(), 3U);
  ASSERT_TRUE(run({from_text("c", line(3))}, true));
  EXPECT_EQ(count(), 4U);
  std::set<event::Epoch> epochs;
  const auto reader = *store::Reader::open(target());
  ASSERT_TRUE(reader->batches([&](const auto& batch) { return epochs.insert(batch.id.epoch).second; }));
  EXPECT_EQ(epochs.size(), 3U);
  EXPECT_EQ(store::check_store(target(), {})->damages, 0U);
}

TEST_F(Importing, BadLinesAreSkippedAndNamed) {
  const auto report = run({from_text("a.jsonl", line(1) + "\n  \r\n{\"time\":1,\"kimd\":2}\n" + line(2) + "x"),
                           from_text("b\x1b.jsonl", "{}\n")});
  ASSERT_TRUE(report);
  EXPECT_EQ(report->imported, 2U);
  EXPECT_EQ(report->skipped, 3U);
  EXPECT_EQ(report->lines, 5U) << "blank lines are none";
  EXPECT_THAT(bad_, testing::ElementsAre(HasSubstr("a.jsonl:4: unknown key 'kimd'"), HasSubstr("a.jsonl:6: not JSON"),
                                         "b\\x1b.jsonl:1: time: missing"));
  EXPECT_EQ(count(), 2U);
}

TEST_F(Importing, StrictTakesAllOrNothing) {
  const auto refused = run({from_text("a", line(1) + "x\n")}, true);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::invalid_input);
  EXPECT_THAT(refused.error().message, HasSubstr("a:2: not JSON"));
  EXPECT_TRUE(files().empty()) << "nothing is left behind";

  ASSERT_TRUE(run({from_text("a", line(1))}));
  std::string many;
  for (int i = 1; i <= 5000; ++i) many += line(i);
  ASSERT_FALSE(run({from_text("b", many + "x\n")}, true));
  EXPECT_EQ(count(), 1U);
  EXPECT_EQ(files().size(), 3U);
}

TEST_F(Importing, ANewFileIsThereWholeOrNot) {
  ImportOptions options;
  options.into = target();
  int asked = 0;
  options.stop = [&] { return ++asked > 2; };
  std::string text;
  for (int i = 1; i <= 5000; ++i) text += line(i);
  const auto stopped = import_recording({from_text("a", text, 1000)}, options);
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, Errc::cancelled);
  EXPECT_TRUE(files().empty());
  // What one left that was killed is in nobody's way.
  std::ofstream(folder_.path() + "/x/.recording.redb.importing") << "rubbish";
  EXPECT_TRUE(run({from_text("a", line(1))}));
  EXPECT_EQ(files().size(), 3U);
}

TEST_F(Importing, AFileThatSomebodyWritesToIsRefused) {
  store::StoreOptions options;
  options.path = target();
  const auto writer = store::Writer::open(options);
  ASSERT_TRUE(writer);
  for (const bool strict : {false, true}) {
    const auto refused = run({from_text("a", line(1))}, strict);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::unavailable);
  }
}

TEST_F(Importing, LinesOfAnyLengthTakeBoundedMemory) {
  std::string text = line(1) + '{' + std::string(max_line_bytes + 100'000, ' ') + "}\n" + line(2);
  auto report = run({from_text("a", text)});
  ASSERT_TRUE(report);
  EXPECT_EQ(report->imported, 2U);
  EXPECT_THAT(bad_, testing::ElementsAre(HasSubstr("a:2: a line of more than 8 MiB")));
  report = run({from_text("a", std::string(max_line_bytes + 2'000'000, ' '))});
  ASSERT_TRUE(report);
  EXPECT_EQ(report->skipped, 1U) << "also at the end";
}

// What an export writes is what an import reads, but for bytes that JSON cannot hold.
TEST_F(Importing, GivesBackWhatWasExported) {
  for (const bool sealed : {false, true}) {
    event::testing::RandomEvents random(sealed ? 1 : 2);
    std::vector<event::ProcessEvent> events;
    for (int i = 0; i < 400; ++i) {
      auto event = random.next();
      if (event.kind == EventKind::gap) {
        event = event::make_gap_event({"events_lost", Timestamp{1}, Timestamp{2}, 3}, event.source, event.time);
      }
      events.push_back(std::move(event));
    }
    // Grows to three times its size, more than a column takes.
    for (const auto* filler : {"\xff", "a\xff", "\xff\xc3\xa4"}) {
      auto event = store::testing::make_event(EventKind::exec, 5, 100);
      std::string bytes;
      while (bytes.size() + 4 < event::max_text_bytes) bytes += filler;
      event.process.cwd = bytes;
      event.process.arguments =
          event::Arguments::from_list({"x", bytes.substr(0, bytes.size() / 2), bytes.substr(bytes.size() / 2)});
      events.push_back(event);
    }
    TempFolder original;
    auto options = original.options();
    options.block_events = sealed ? 100 : 100'000;
    {
      const auto writer = *store::Writer::open(options);
      for (std::size_t i = 0; i < events.size(); i += 50) {
        const std::vector<event::ProcessEvent> some(
            events.begin() + static_cast<std::ptrdiff_t>(i),
            events.begin() + static_cast<std::ptrdiff_t>(std::min(i + 50, events.size())));
        ASSERT_TRUE(store::testing::commit(*writer, store::testing::make_batch(i / 50 + 1, some)));
      }
    }
    const auto lines = exported(original.file());
    ASSERT_EQ(lines.size(), events.size());
    std::string text;
    for (const auto& each : lines) text += each;
    std::filesystem::remove(target());
    const auto report = run({from_text("export", text, 100'000)}, true);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(exported(target()), lines) << "a second time nothing changes";

    const auto reader = *store::Reader::open(target());
    store::ScanRequest request;
    const auto scan = *reader->scan(request);
    for (std::size_t i = 0; i < 400; ++i) {
      ASSERT_TRUE(*scan->next());
      const auto row = *scan->take_event();
      for (const auto& column : event::columns()) {
        auto wanted = event::column_value(events[i], 1, column.column);
        if (auto* held = std::get_if<std::string>(&wanted)) *held = base::to_valid_utf8(*held);
        EXPECT_EQ(event::column_value(row, 1, column.column), wanted) << i << ' ' << column.name;
      }
    }
  }
}

}  // namespace
}  // namespace daemoneye::recording
