// A million lines, as `export` writes them: taken apart by one thread, and imported. IMPORT_BENCH_LINES: another
// number.
#include <benchmark/benchmark.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>

#include "recording/import.h"
#include "recording/line_parser.h"
#include "recording/line_writer.h"
#include "store/testing/event_generator.h"
#include "store/testing/temp_store.h"

namespace {

using namespace daemoneye;
using store::testing::TempFolder;

std::size_t wanted_lines() {
  const char* asked = std::getenv("IMPORT_BENCH_LINES");
  return asked == nullptr ? 1'000'000 : std::strtoull(asked, nullptr, 10);
}

double cpu_seconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

double peak_mb() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("VmHWM:")) return std::strtod(line.c_str() + 6, nullptr) / 1024;
  }
  return 0;
}

// The lines, in a file: made once.
class Recording {
 public:
  static const Recording& get() {
    static const Recording recording;
    return recording;
  }
  [[nodiscard]] std::string path() const { return folder_.path() + "/lines.jsonl"; }
  [[nodiscard]] std::size_t lines() const { return lines_; }

 private:
  Recording() : lines_(wanted_lines()) {
    auto writer = *store::Writer::open(folder_.options());
    store::testing::EventGenerator generator(1);
    for (std::size_t i = 0; i < lines_; i += 1000) {
      std::vector<event::ProcessEvent> events;
      for (std::size_t k = 0; k < std::min<std::size_t>(1000, lines_ - i); ++k) events.push_back(generator.next());
      if (!store::testing::commit(*writer, store::testing::make_batch(i / 1000 + 1, std::move(events)))) std::abort();
    }
    writer.reset();
    const auto begin = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID);
    const auto reader = *store::Reader::open(folder_.file());
    store::ScanRequest request;
    request.columns = recording::line_columns();
    const auto scan = *reader->scan(request);
    std::ofstream out(path(), std::ios::binary);
    std::string text;
    while (*scan->next()) {
      recording::append_line(*scan, {}, text);
      if (text.size() < 1'000'000) continue;
      out << text;
      text.clear();
    }
    out << text;
    export_cpu_us = (cpu_seconds(CLOCK_PROCESS_CPUTIME_ID) - begin) * 1e6 / static_cast<double>(lines_);
  }
  TempFolder folder_;
  std::size_t lines_;

 public:
  double export_cpu_us = 0;
};

recording::Input input_of(const std::string& path) {
  const auto file = std::make_shared<std::ifstream>(path, std::ios::binary);
  return {path, [file](char* buffer, std::size_t size) -> Result<std::size_t> {
            file->read(buffer, static_cast<std::streamsize>(size));
            return static_cast<std::size_t>(file->gcount());
          }};
}

void taking_apart(benchmark::State& state, bool encode) {
  const auto& recording = Recording::get();
  std::string piece(64 * 1024 * 1024, '\0');  // from memory, again and again
  std::ifstream(recording.path(), std::ios::binary).read(piece.data(), static_cast<std::streamsize>(piece.size()));
  piece.resize(piece.rfind('\n') + 1);
  piece.resize(piece.find_last_of('\n') + 1);
  const auto size = piece.size();
  piece.append(recording::line_padding, ' ');
  recording::LineParser parser;
  std::size_t at = 0, lines = 0, bytes = 0;
  std::string encoded;
  for (auto _ : state) {
    const auto end = piece.find('\n', at);
    const auto parsed = parser.parse(std::string_view(piece).substr(at, end - at));
    if (!parsed) std::abort();
    if (encode) {
      event::encode_event(**parsed, encoded);
      if (encoded.size() > 500'000) encoded.clear();
    }
    bytes += end - at + 1;
    ++lines;
    at = end + 1 < size ? end + 1 : 0;
  }
  state.counters["lines_per_s"] = benchmark::Counter(static_cast<double>(lines), benchmark::Counter::kIsRate);
  state.counters["bytes_per_line"] = static_cast<double>(bytes) / static_cast<double>(lines);
}
void parse(benchmark::State& state) { taking_apart(state, false); }
void parse_and_encode(benchmark::State& state) { taking_apart(state, true); }

void import(benchmark::State& state) {
  const auto& recording = Recording::get();
  for (auto _ : state) {
    const TempFolder folder;
    std::ofstream("/proc/self/clear_refs") << "5";
    const auto cpu = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID), own = cpu_seconds(CLOCK_THREAD_CPUTIME_ID);
    const auto begin = cpu_seconds(CLOCK_MONOTONIC);
    recording::ImportOptions options;
    options.into = folder.path() + "/recording.redb";
    const auto report = recording::import_recording({input_of(recording.path())}, options);
    if (!report || report->imported != recording.lines()) std::abort();
    const auto lines = static_cast<double>(recording.lines());
    const double process_cpu = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    state.counters["lines_per_s_wall"] = lines / (cpu_seconds(CLOCK_MONOTONIC) - begin);
    state.counters["lines_per_s_of_cpu"] = lines / process_cpu;
    state.counters["reading_us_per_line"] = (cpu_seconds(CLOCK_THREAD_CPUTIME_ID) - own) * 1e6 / lines;
    state.counters["cpu_us_per_line"] = process_cpu * 1e6 / lines;
    state.counters["export_us_per_line"] = recording.export_cpu_us;
    state.counters["bytes_per_event"] = static_cast<double>(std::filesystem::file_size(options.into)) / lines;
    state.counters["peak_mb"] = peak_mb();
  }
}

BENCHMARK(import)->Iterations(1)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(parse);
BENCHMARK(parse_and_encode);

}  // namespace
