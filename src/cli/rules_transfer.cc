// rules import and export: rule files of ours, and Sigma rules that become such files.
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <ostream>
#include <set>

#include "base/file.h"
#include "base/text.h"
#include "cli/rules.h"
#include "sigma/sigma.h"

namespace daemoneye::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::size_t max_files = 100'000;
constexpr mode_t file_rights = 0644;

struct ImportOptions {
  std::vector<std::string> paths;
  std::string into, taxonomy, status;
  bool sigma = false, dry_run = false, replace = false;
};

// A rule that is to be written.
struct Candidate {
  std::string file, id, title, text;
};
struct Refused {
  std::string file, id, reason;
  unsigned line = 0;
};
struct Gathered {
  std::vector<Candidate> candidates;
  std::vector<Refused> refused;
};

bool is_yaml(const fs::path& path) { return path.extension() == ".yaml" || path.extension() == ".yml"; }

Outcome<std::vector<std::string>> files_of(const std::vector<std::string>& paths) {
  std::vector<std::string> files;
  for (const auto& path : paths) {
    if (!is_folder(path)) {
      files.push_back(path);
      continue;
    }
    std::error_code error;
    fs::recursive_directory_iterator entry(path, error);
    for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
      if (!entry->is_regular_file(error) || !is_yaml(entry->path())) continue;
      if (files.size() == max_files) return std::unexpected(Failure(Exit::usage, "more than 100000 files"));
      files.push_back(entry->path().string());
    }
    if (error) return std::unexpected(Failure(Exit::unavailable, base::printable(path) + ": " + error.message()));
  }
  std::ranges::sort(files);
  return files;
}

// The documents of a stream of rule files, as `rules export` writes it; each as it is.
std::vector<std::string> documents_of(const std::string& text) {
  std::vector<std::string> documents(1);
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    const auto line = std::string_view(text).substr(at, end - at);
    if (line == "---" || line == "---\r")
      documents.emplace_back();
    else
      documents.back() += std::string(line) + "\n";
    at = end + 1;
  }
  std::erase_if(documents, [](const std::string& one) { return base::trim(one).empty(); });
  return documents;
}

void gather_own(const std::string& file, const std::string& text, Gathered& out) {
  const auto documents = documents_of(text);
  if (documents.empty()) out.refused.push_back({file, "", "an empty file"});
  for (const auto& document : documents) {
    auto rule = detect::parse_rule(document, file);
    if (rule)
      out.candidates.push_back({file, rule->id, rule->title, document});
    else
      out.refused.push_back(
          {file, "",
           (rule.error().front().key.empty() ? "" : rule.error().front().key + ": ") + rule.error().front().message,
           rule.error().front().line});
  }
}

void gather_sigma(const std::string& file, const std::string& text, const sigma::Taxonomy& taxonomy,
                  const std::string& status, Gathered& out) {
  for (auto& outcome : sigma::translate(text, file, taxonomy)) {
    if (!outcome) {
      auto& refusal = outcome.error();
      out.refused.push_back({file, refusal.id, refusal.reason, refusal.line});
      continue;
    }
    if (!status.empty()) {
      const auto at = outcome->yaml.find("\nstatus: ");
      outcome->yaml.replace(at, outcome->yaml.find('\n', at + 1) - at, "\nstatus: " + status);
    }
    out.candidates.push_back({file, outcome->id, outcome->title, std::move(outcome->yaml)});
  }
}

Outcome<Gathered> gather(const ImportOptions& options) {
  sigma::Taxonomy own;
  if (!options.taxonomy.empty()) {
    CLI_TRY(const auto text, base::read_file(options.taxonomy, sigma::max_file_bytes));
    CLI_TRY(own, sigma::Taxonomy::parse(text));
  }
  const auto& taxonomy = options.taxonomy.empty() ? sigma::Taxonomy::bundled() : own;
  CLI_TRY(const auto files, files_of(options.paths));
  Gathered out;
  for (const auto& file : files) {
    const auto text = base::read_file(file, std::max(sigma::max_file_bytes, 64 * detect::max_rule_file_bytes));
    if (!text)
      out.refused.push_back({file, "", text.error().message});
    else if (options.sigma)
      gather_sigma(file, *text, taxonomy, options.status, out);
    else
      gather_own(file, *text, out);
  }
  return out;
}

// What stands in the way of writing it; empty: nothing.
std::string obstacle(const Candidate& rule, const std::string& target, const std::map<std::string, std::string>& there,
                     bool replace) {
  const auto known = there.find(rule.id);
  if (known != there.end() && known->second != target) return "the folder has this id in " + known->second;
  if (!replace && is_file(target)) {
    const auto before = base::read_file(target, detect::max_rule_file_bytes);
    if (!before || *before != rule.text) return target + " is there and differs; --replace writes over it";
  }
  return "";
}

Outcome<std::string> target_folder(const std::string& asked, Invocation& invocation) {
  if (!asked.empty()) return asked;
  CLI_TRY(const auto* settings, invocation.loaded());
  const auto& paths = settings->settings.detection.rule_paths;
  if (paths.empty()) return std::unexpected(Failure(Exit::usage, "detection.rule_paths is empty: give --into FOLDER"));
  return paths.back();
}

Outcome<bool> write_all(Gathered& gathered, const std::string& folder, const ImportOptions& options) {
  std::map<std::string, std::string> there;  // id -> file
  for (const auto& loaded : detect::load_rules({folder}).rules) there[loaded.rule.id] = loaded.rule.file;
  std::set<std::string> taken;
  std::vector<Candidate> written;
  for (auto& rule : gathered.candidates) {
    const std::string target = folder + "/" + rule.id + ".yaml";
    std::string why = taken.insert(rule.id).second ? obstacle(rule, target, there, options.replace)
                                                   : "another rule of this import has the same id";
    if (why.empty() && !options.dry_run) {
      if (const auto done = base::write_file_atomic(target, rule.text, file_rights); !done) {
        return std::unexpected(Failure(Exit::unavailable, done.error().message,
                                       {std::to_string(written.size()) + " rules were written before"}));
      }
    }
    if (why.empty())
      written.push_back(std::move(rule));
    else
      gathered.refused.push_back({rule.file, rule.id, std::move(why)});
  }
  gathered.candidates = std::move(written);
  return true;
}

std::string line_of(const json& document) { return document.dump(-1, ' ', false, json::error_handler_t::replace); }

void tell(const Gathered& gathered, const std::string& folder, bool dry_run, Invocation& invocation) {
  if (invocation.format() == Format::json) {
    auto imported = json::array(), refused = json::array();
    for (const auto& one : gathered.candidates) {
      imported.push_back({{"file", one.file}, {"id", one.id}, {"title", one.title}});
    }
    for (const auto& one : gathered.refused) {
      refused.push_back({{"file", one.file}, {"id", one.id}, {"line", one.line}, {"reason", one.reason}});
    }
    invocation.out() << line_of({{"dry_run", dry_run},
                                 {"folder", folder},
                                 {"imported", std::move(imported)},
                                 {"refused", std::move(refused)}})
                     << '\n';
    return;
  }
  const auto writer = invocation.row_writer("-");
  writer->begin({{"outcome"}, {"id"}, {"file"}, {"line"}, {"reason"}});
  for (const auto& one : gathered.candidates) {
    writer->row({std::string("imported"), one.id, one.file, std::monostate{}, std::monostate{}});
  }
  for (const auto& one : gathered.refused) {
    const event::Value id = one.id.empty() ? event::Value() : event::Value(one.id);
    const event::Value line = one.line == 0 ? event::Value() : event::Value(static_cast<std::int64_t>(one.line));
    writer->row({std::string("refused"), id, one.file, line, one.reason});
  }
  writer->finish({}, "");
  invocation.out().flush();
  const auto imported = gathered.candidates.size(), all = imported + gathered.refused.size();
  invocation.err() << imported << " of " << all << " rules " << (dry_run ? "would be written to " : "written to ")
                   << base::printable(folder) << '\n';
}

Outcome<Exit> import_rules(const ImportOptions& options, Invocation& invocation) {
  CLI_TRY(const auto folder, target_folder(options.into, invocation));
  CLI_TRY(auto gathered, gather(options));
  if (gathered.candidates.empty() && gathered.refused.empty()) {
    return std::unexpected(Failure(Exit::usage, "no YAML file in " + base::printable(joined(options.paths))));
  }
  if (!options.dry_run && !is_folder(folder) && ::mkdir(folder.c_str(), 0755) != 0) {
    return std::unexpected(Failure(Exit::unavailable, base::printable(folder) + ": " + std::strerror(errno)));
  }
  CLI_TRY([[maybe_unused]] const bool done, write_all(gathered, folder, options));
  tell(gathered, folder, options.dry_run, invocation);
  if (gathered.candidates.empty()) return Exit::usage;
  return gathered.refused.empty() ? Exit::done : Exit::degraded;
}

struct ExportOptions {
  std::vector<std::string> rules;
  std::string out;
};

Outcome<Exit> export_rules(const ExportOptions& options, Invocation& invocation) {
  CLI_TRY(const auto set, load_rules(invocation));
  std::vector<std::pair<std::string, std::string>> texts;  // id, file's text
  for (const auto& loaded : set.rules) {
    const auto& id = loaded.rule.id;
    if (!options.rules.empty() && std::ranges::find(options.rules, id) == options.rules.end()) continue;
    CLI_TRY(auto text, base::read_file(loaded.rule.file, detect::max_rule_file_bytes));
    if (!text.ends_with('\n')) text += '\n';
    texts.emplace_back(id, std::move(text));
  }
  for (const auto& id : options.rules) {
    if (std::ranges::find(texts, id, &std::pair<std::string, std::string>::first) == texts.end()) {
      return std::unexpected(Failure(Exit::usage, "no rule '" + base::printable(id) + "'"));
    }
  }
  if (options.out.empty()) {
    for (std::size_t i = 0; i < texts.size(); ++i) invocation.out() << (i == 0 ? "" : "---\n") << texts[i].second;
    return Exit::done;
  }
  if (!is_folder(options.out) && ::mkdir(options.out.c_str(), 0755) != 0) {
    return std::unexpected(Failure(Exit::unavailable, base::printable(options.out) + ": " + std::strerror(errno)));
  }
  for (const auto& [id, text] : texts) {
    if (auto done = base::write_file_atomic(options.out + "/" + id + ".yaml", text, file_rights); !done) {
      return std::unexpected(Failure(done.error()));
    }
  }
  invocation.err() << texts.size() << " rules written to " << base::printable(options.out) << '\n';
  return Exit::done;
}

}  // namespace

void add_rule_transfer(CLI::App& rules, Action& chosen) {
  auto* import = add_verb(rules, "import", "Take rules over: our own files, or Sigma rules with --sigma");
  const auto options = std::make_shared<ImportOptions>();  // shared: the parser fills what the action reads
  import->add_option("PATH", options->paths, "Files and folders")->required();
  import->add_flag("--sigma", options->sigma, "They are Sigma rules; what cannot be said exactly is refused");
  import->add_flag("--dry-run", options->dry_run, "Write nothing; tell what would be");
  import->add_flag("--replace", options->replace, "Write over files of the same name");
  import->add_option("--into", options->into, "Folder to write to; default: the last of detection.rule_paths")
      ->type_name("FOLDER");
  import->add_option("--taxonomy", options->taxonomy, "With --sigma: a field mapping of your own")->type_name("FILE");
  import->add_option("--status", options->status, "With --sigma: the rules' status, whatever Sigma says")
      ->check(CLI::IsMember({"draft", "active", "disabled", "archived"}));
  import->callback([options, &chosen] {
    chosen = [options](Invocation& invocation) { return import_rules(*options, invocation); };
  });

  auto* out = add_verb(rules, "export", "Write rule files as they are, to stdout or a folder");
  const auto exported = std::make_shared<ExportOptions>();
  out->add_option("RULE", exported->rules, "Ids of rules; default: all");
  out->add_option("--out", exported->out, "A folder, one file a rule")->type_name("FOLDER");
  out->callback([exported, &chosen] {
    chosen = [exported](Invocation& invocation) { return export_rules(*exported, invocation); };
  });
}

}  // namespace daemoneye::cli
