#include "cli/line_editor.h"

#include <fcntl.h>
#include <histedit.h>
#include <signal.h>
#include <sys/stat.h>

#include <clocale>
#include <cstdio>
#include <filesystem>

#include "base/unique_fd.h"

namespace daemoneye::cli {
namespace {

constexpr int max_history = 1000;
constexpr std::size_t max_listed = 100;

// What ends programs ends this one while it waits for a person, though it is only noticed while a statement runs.
class DefaultSignals {
 public:
  DefaultSignals() {
    struct sigaction action{};
    action.sa_handler = SIG_DFL;
    for (std::size_t i = 0; i < 2; ++i) ::sigaction(signals[i], &action, &before_[i]);
  }
  ~DefaultSignals() {
    for (std::size_t i = 0; i < 2; ++i) ::sigaction(signals[i], &before_[i], nullptr);
  }
  DefaultSignals(const DefaultSignals&) = delete;
  DefaultSignals& operator=(const DefaultSignals&) = delete;

 private:
  static constexpr int signals[] = {SIGTERM, SIGHUP};
  struct sigaction before_[2]{};
};

}  // namespace

struct LineEditor::Impl {
  EditLine* editor = nullptr;
  History* history_list = nullptr;
  std::string history_file, prompt;
  std::function<Completion(std::string_view)> completer;
  bool cancelled = false;

  static Impl& of(EditLine* editor) {
    void* self = nullptr;
    el_get(editor, EL_CLIENTDATA, &self);
    return *static_cast<Impl*>(self);
  }
  static char* show_prompt(EditLine* editor) { return of(editor).prompt.data(); }

  static unsigned char cancel(EditLine* editor, int) {
    of(editor).cancelled = true;
    std::fputs("^C\n", stdout);
    std::fflush(stdout);
    return CC_NEWLINE;
  }

  static unsigned char complete_word(EditLine* editor, int) {
    const LineInfo* const line = el_line(editor);
    const std::string_view before(line->buffer, static_cast<std::size_t>(line->cursor - line->buffer));
    const auto [word_bytes, candidates] = of(editor).completer(before);
    if (candidates.empty()) return CC_ERROR;
    std::string insert = common_beginning(candidates);
    if (candidates.size() == 1 && !insert.ends_with('(')) insert += ' ';
    if (insert.size() > word_bytes) {
      // The letters as they are known take the place of those typed.
      el_deletestr(editor, static_cast<int>(word_bytes));
      return el_insertstr(editor, insert.c_str()) == 0 ? CC_REFRESH : CC_ERROR;
    }
    std::fputc('\n', stdout);
    for (std::size_t i = 0; i < candidates.size() && i < max_listed; ++i)
      std::fprintf(stdout, "%s  ", candidates[i].c_str());
    if (candidates.size() > max_listed) std::fprintf(stdout, "… %zu more", candidates.size() - max_listed);
    std::fputc('\n', stdout);
    std::fflush(stdout);
    return CC_REDISPLAY;
  }

  void open_history() {
    HistEvent event{};
    history_list = history_init();
    history(history_list, &event, H_SETSIZE, max_history);
    history(history_list, &event, H_SETUNIQUE, 1);
    el_set(editor, EL_HIST, history, history_list);
    if (history_file.empty()) return;
    std::error_code ignored;  // without a history the shell works all the same
    const auto folder = std::filesystem::path(history_file).parent_path();
    if (!std::filesystem::exists(folder, ignored)) {
      std::filesystem::create_directories(folder, ignored);
      std::filesystem::permissions(folder, std::filesystem::perms::owner_all, ignored);
    }
    const base::UniqueFd file(::open(history_file.c_str(), O_CREAT | O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file || ::fchmod(file.get(), 0600) != 0) {
      history_file.clear();
      return;
    }
    history(history_list, &event, H_LOAD, history_file.c_str());
  }
};

LineEditor::LineEditor(const std::string& history_file, std::function<Completion(std::string_view line)> completer)
    : impl_(std::make_unique<Impl>()) {
  // For letters outside of ASCII; libedit asks the locale how wide they are.
  if (std::setlocale(LC_CTYPE, "C.UTF-8") == nullptr) std::setlocale(LC_CTYPE, "");  // NOLINT(concurrency-mt-unsafe)
  impl_->history_file = history_file;
  impl_->completer = std::move(completer);
  impl_->editor = el_init("daemoneye-cli", stdin, stdout, stderr);
  EditLine* const editor = impl_->editor;
  el_set(editor, EL_CLIENTDATA, impl_.get());
  el_set(editor, EL_PROMPT, &Impl::show_prompt);
  el_set(editor, EL_EDITOR, "emacs");
  // Ctrl-C is a key while a line is edited, and a signal while a statement runs.
  el_set(editor, EL_SETTY, "-d", "-isig", nullptr);
  el_set(editor, EL_ADDFN, "daemoneye-cancel", "Forget this statement", &Impl::cancel);
  el_set(editor, EL_BIND, "^C", "daemoneye-cancel", nullptr);
  el_set(editor, EL_ADDFN, "daemoneye-complete", "Complete the word", &Impl::complete_word);
  el_set(editor, EL_BIND, "^I", "daemoneye-complete", nullptr);
  el_set(editor, EL_BIND, "^R", "em-inc-search-prev", nullptr);
  impl_->open_history();
}

LineEditor::~LineEditor() {
  history_end(impl_->history_list);
  el_end(impl_->editor);
}

LineEditor::Read LineEditor::read(const std::string& prompt, std::string& line) {
  const DefaultSignals signals;
  impl_->prompt = prompt;
  impl_->cancelled = false;
  int count = 0;
  const char* const got = el_gets(impl_->editor, &count);
  if (impl_->cancelled) return Read::cancelled;
  if (got == nullptr || count <= 0) {
    std::fputc('\n', stdout);
    std::fflush(stdout);
    return Read::end;
  }
  line.assign(got, static_cast<std::size_t>(count));
  if (line.ends_with('\n')) line.pop_back();
  return Read::line;
}

void LineEditor::remember(const std::string& text) {
  HistEvent event{};
  history(impl_->history_list, &event, H_ENTER, text.c_str());
  if (!impl_->history_file.empty()) history(impl_->history_list, &event, H_SAVE, impl_->history_file.c_str());
}

}  // namespace daemoneye::cli
