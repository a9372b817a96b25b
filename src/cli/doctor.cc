// doctor: what works on this machine, what does not, what that means and how to mend it. With the daemons running or
// stopped, as root or not; what could not be looked at is said.
#include "cli/doctor.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <ostream>

#include "base/text.h"
#include "cli/verbs.h"

namespace daemoneye::cli {
namespace {

constexpr std::chrono::seconds agent_patience{5};

const char* paint_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::ok: return "\x1b[32m";
    case Verdict::unknown: return "\x1b[36m";
    case Verdict::warn: return "\x1b[33m";
    case Verdict::fail: return "\x1b[31m";
  }
  return "";
}

Verdict worst(const std::vector<Finding>& findings) {
  Verdict verdict = Verdict::ok;
  for (const auto& finding : findings) verdict = std::max(verdict, finding.verdict);
  return verdict;
}

// A check that could not be made leaves the answer as incomplete as one that found something.
Exit exit_for_verdict(Verdict verdict) {
  switch (verdict) {
    case Verdict::ok: return Exit::done;
    case Verdict::unknown:
    case Verdict::warn: return Exit::degraded;
    case Verdict::fail: return Exit::failed;
  }
  return Exit::failed;
}

void print_table(const Invocation& invocation, const std::vector<Finding>& findings) {
  auto& out = invocation.out();
  const bool colour = invocation.render().colour;
  std::size_t width = 0;
  for (const auto& finding : findings) width = std::max(width, finding.check.size());
  std::string group;
  for (const auto& finding : findings) {
    if (finding.group != group) out << (group.empty() ? "" : "\n") << finding.group << '\n';
    group = finding.group;
    const std::string verdict(to_string(finding.verdict));
    out << "  " << (colour ? paint_of(finding.verdict) : "") << verdict << (colour ? "\x1b[0m" : "")
        << std::string(9 - verdict.size(), ' ') << finding.check << std::string(width - finding.check.size() + 2, ' ')
        << base::printable(finding.found) << '\n';
    if (!finding.meaning.empty()) out << "           means: " << base::printable(finding.meaning) << '\n';
    if (!finding.fix.empty()) out << "           fix:   " << base::printable(finding.fix) << '\n';
  }
  const auto count = [&](Verdict verdict) { return std::ranges::count(findings, verdict, &Finding::verdict); };
  out << '\n'
      << count(Verdict::ok) << " ok, " << count(Verdict::warn) << " warn, " << count(Verdict::fail) << " fail, "
      << count(Verdict::unknown) << " not looked at\n";
}

void print(const Invocation& invocation, const std::vector<Finding>& findings) {
  if (invocation.format() == Format::table) return print_table(invocation, findings);
  const auto writer = invocation.row_writer();
  writer->begin({{"group"}, {"check"}, {"state"}, {"found"}, {"meaning"}, {"fix"}});
  for (const auto& finding : findings) {
    writer->row({finding.group, finding.check, std::string(to_string(finding.verdict)), finding.found, finding.meaning,
                 finding.fix});
  }
  writer->add("state", base::json_quote(to_string(worst(findings))));
  writer->finish({}, "");
}

std::optional<std::vector<observe::ComponentHealth>> ask_agent(Invocation& invocation) {
  const auto deadline = Deadline::after(std::min<std::chrono::nanoseconds>(agent_patience, invocation.timeout()));
  const auto agent = invocation.agent(deadline);
  if (!agent) return std::nullopt;
  const auto answer = (*agent)->call(ipc::RequestKind::health, "{}", deadline);
  if (!answer) return std::nullopt;
  auto report = observe::parse_health(*answer);
  if (!report) return std::nullopt;
  return std::move(*report);
}

Outcome<Exit> run_doctor(Invocation& invocation) {
  std::vector<std::string> broken;
  auto loaded = invocation.loaded();
  if (!loaded) {
    broken = loaded.error().details;
    if (broken.empty()) broken.push_back(loaded.error().message);
    loaded = invocation.loaded_defaults();
    if (!loaded) return std::unexpected(loaded.error());
  }
  const auto& sources = invocation.sources();
  Patient patient{.invocation = invocation,
                  .loaded = *loaded,
                  .root = ::geteuid() == 0,
                  .for_root_start = sources.privileged || sources.system_paths};
  patient.health = ask_agent(invocation);
  auto findings = look_at_setup(patient, broken);
  for (auto* look : {look_at_files, look_at_host}) std::ranges::move(look(patient), std::back_inserter(findings));
  print(invocation, findings);
  return exit_for_verdict(worst(findings));
}

}  // namespace

std::string_view to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::ok: return "ok";
    case Verdict::unknown: return "unknown";
    case Verdict::warn: return "warn";
    case Verdict::fail: return "fail";
  }
  return "fail";
}

const observe::ComponentHealth* Patient::component(std::string_view name) const {
  if (!health) return nullptr;
  const auto found = std::ranges::find(*health, name, &observe::ComponentHealth::component);
  return found == health->end() ? nullptr : &*found;
}

void add_doctor(CLI::App& app, Action& chosen) {
  auto* doctor = add_verb(app, "doctor", "What works on this machine, what that means, and how to mend it");
  doctor->callback([&chosen] { chosen = run_doctor; });
}

}  // namespace daemoneye::cli
