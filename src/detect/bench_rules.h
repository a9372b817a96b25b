// Rules and events for benchmarks: what rule collections are made of, and what a machine at work does. The first
// hundred rules are those that events match, so that sets of any size have the same matches.
#pragma once

#include <string>
#include <vector>

#include "event/process_event.h"

namespace daemoneye::detect {

inline std::string bench_rule(std::size_t i) {
  const std::string n = std::to_string(i);
  const std::string word = "tool" + n + "x";
  std::string condition, from = "process_events e";
  switch (i % 10) {
    case 0: condition = "e.name IN ('" + word + "', '" + word + "-ng')"; break;
    case 1: condition = "e.name IN ('sh', 'bash', 'dash') AND e.command_line LIKE '%" + word + "%'"; break;
    case 2: condition = "e.command_line REGEXP '(?i)(^|[\\s/])" + word + "\\s+(-[a-z]*d|--decode)'"; break;
    case 3: condition = "e.executable_path GLOB '/opt/" + word + "/*'"; break;
    case 4: condition = "e.name = 'python3' AND e.command_line LIKE '%import " + word + "%'"; break;
    case 5:
      condition = "(e.name = 'curl' AND e.command_line LIKE '%://" + word +
                  "%') OR (e.name = 'wget' AND "
                  "e.command_line LIKE '%" +
                  word + ".example%')";
      break;
    case 6:
      from += " LEFT JOIN processes p ON p.process_key = e.parent_key";
      condition = "e.name = '" + word + "' AND (p.name IS NULL OR p.name <> 'make')";
      break;
    case 7: condition = "e.command_line LIKE '% --" + word + "=%' AND e.uid > 0"; break;
    case 8:
      condition = "e.command_line REGEXP '" + word + "\\.(sh|py|pl)\\b' AND e.parent_name IN ('sh', 'bash', 'cron')";
      break;
    default: condition = "e.name IN ('tar', 'zip', '7z') AND e.command_line GLOB '*/" + word + "/*'"; break;
  }
  return "id: bench-" + n + "\ntitle: \"Bench " + n + ": {{command_line}}\"\nseverity: medium\n" +
         "description: A rule as there are many.\ntags: [attack.execution, attack.t1059]\nsql: |\n" +
         "  SELECT e.process_key, e.pid, e.name, e.executable_path, e.command_line, e.user\n  FROM " + from +
         "\n  WHERE e.kind = 'exec' AND (" + condition + ")\n";
}

// Rules with `evaluate` over ten minutes: a rate by name, many parents of one program, a rare pair.
inline std::vector<std::string> bench_scheduled_rules() {
  const auto rule = [](const std::string& id, const std::string& sql) {
    return "id: " + id + "\ntitle: " + id + "\nseverity: low\nevaluate: {every: 60s, window: 10m}\nsql: |\n  " + sql +
           "\n";
  };
  return {rule("bench-burst",
               "SELECT e.name, count(*) AS n FROM process_events e WHERE e.kind = 'exec' GROUP BY e.name "
               "HAVING count(*) > 1000000"),
          rule("bench-rare",
               "SELECT e.name, e.command_line, count(*) AS n FROM process_events e WHERE e.kind = 'exec' AND e.name IN "
               "('nc', 'ncat', 'socat') GROUP BY e.name, e.command_line HAVING count(*) > 3"),
          rule("bench-children",
               "SELECT e.parent_name, e.name, count(*) AS n FROM process_events e WHERE e.kind = 'exec' AND "
               "e.parent_name = 'sshd' AND e.command_line LIKE '%authorized_keys%' GROUP BY e.parent_name, e.name")};
}

// What matches rule i, for i below 100.
inline std::vector<std::string> bench_match(std::size_t i) {
  const std::string word = "tool" + std::to_string(i) + "x";
  switch (i % 10) {
    case 0: return {word};
    case 1: return {"bash", "-c", "run " + word};
    case 2: return {"/usr/bin/" + word, "--decode"};
    case 3: return {"helper", "of", word};
    case 4: return {"python3", "-c", "import " + word};
    case 5: return {"curl", "https://" + word + ".example/x"};
    case 6: return {word, "-v"};
    case 7: return {"server", "--" + word + "=1"};
    case 8: return {"perl", "/srv/" + word + ".pl"};
    default: return {"tar", "cf", "/backup/" + word + "/all.tar"};
  }
}

// `count` events 1 ms apart, of which one in a hundred matches a rule unless `with_matches` is false.
inline std::vector<event::ProcessEvent> bench_events(std::size_t count, std::int64_t time_ns, std::size_t first,
                                                     bool with_matches = true) {
  const std::vector<std::vector<std::string>> commands = {
      {"sh", "-c", "test -f /etc/foo && cat /etc/foo"},
      {"grep", "-q", "pattern", "/var/lib/some/file"},
      {"cc1plus", "-quiet", "-I", "/usr/include/c++/12", "-o", "/tmp/ccAbCd.s", "source.cc"},
      {"sleep", "1"},
      {"python3", "/usr/bin/unattended-upgrade", "--download-only"},
      {"ls", "-la", "/srv"},
      {"git", "status"},
      {"bash", "-c", "for i in 1 2 3; do echo $i; done"},
      {"systemctl", "is-active", "ssh"},
      {"find", "/srv", "-name", "*.o"}};
  std::vector<event::ProcessEvent> events;
  for (std::size_t k = 0; k < count; ++k) {
    const std::size_t i = first + k;
    event::ProcessEvent event;
    auto command = commands[i % commands.size()];
    const bool match = with_matches && k % 100 == 0;
    if (match) command = bench_match((i / 100) % 100);
    // Half of what runs differs from all before it.
    if (!match && i % 2 == 0) command.push_back("/var/tmp/work/" + std::to_string(i * 7919));
    event.time.ns = event.process.collection_time.ns = time_ns + static_cast<std::int64_t>(k) * 1'000;
    event.kind = event::EventKind::exec;
    event.source = event::EventSource::ebpf;
    event.process.key.pid = static_cast<event::Pid>(i + 2);
    event.process.key.start_ticks = i;
    event.process.name = command.front().substr(command.front().rfind('/') + 1);
    event.process.executable_path =
        match && command.front() == "helper" ? "/opt/" + command.back() + "/helper" : "/usr/bin/" + event.process.name;
    event.process.arguments = event::Arguments::from_list(command);
    event.process.start_time = event.time;
    event.process.uid = 1000;
    event.process.user = "build";
    event.process.cwd = "/home/build/project";
    event.process.executable_state = event::ExecutableState::ok;
    event.parent_name = "bash";
    event.parent_executable_path = "/usr/bin/bash";
    event.parent_command_line = "bash -c make";
    events.push_back(std::move(event));
  }
  return events;
}

}  // namespace daemoneye::detect
