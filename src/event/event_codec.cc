#include "event/event_codec.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/hash.h"
#include "event/batch.h"
#include "event/columns.h"

namespace daemoneye::event {
namespace {

constexpr std::uint64_t largest_sql_integer = std::numeric_limits<std::int64_t>::max();

// What is read into an event of its own, and into one that looks into the bytes.
template <class Text>
constexpr bool is_text = std::is_same_v<Text, std::string> || std::is_same_v<Text, std::string_view>;

// What the canonical form leaves out, so that the columns of SQL can hold every value that is sent.
bool representable(const std::string&) { return true; }
bool representable(const Arguments&) { return true; }
bool representable(double value) { return std::isfinite(value); }
bool representable(std::uint64_t value) { return value <= largest_sql_integer; }
template <class T>
bool representable(const T&) {
  return true;
}

bool is_lower_hex_digest(const std::string& text) {
  if (text.size() != 64) return false;
  bool digits = true;  // without a branch for each: nearly all of them are
  for (const char c : text) digits &= (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  return digits;
}

// Every field of an event in Column order. `detail` counts as optional: empty is absent. Of a gap no process travels.
template <class Archive, class Event>
void visit(Archive& archive, Event& event) {
  archive.base_time(event.time);
  archive.enumerator(Column::kind, event.kind);
  archive.enumerator(Column::source, event.source);
  archive.optional_if_empty(Column::detail, event.detail);
  auto& process = event.process;
  if (event.kind != EventKind::gap) {
    archive.own_key(process.key);
    archive.optional(Column::ppid, process.ppid);
    archive.parent_key(process.key, process.parent_key);
    archive.required(Column::name, process.name);
    archive.optional(Column::comm, process.comm);
    archive.optional(Column::executable_path, process.executable_path);
    archive.optional(Column::arguments, process.arguments);
    archive.optional(Column::cwd, process.cwd);
    archive.optional(Column::uid, process.uid);
    archive.optional(Column::gid, process.gid);
    archive.optional(Column::euid, process.euid);
    archive.optional(Column::loginuid, process.loginuid);
    archive.optional(Column::user, process.user);
    archive.optional(Column::session_id, process.session_id);
    archive.optional(Column::tty, process.tty);
    archive.optional(Column::start_time, process.start_time);
    archive.optional(Column::exit_time, process.exit_time);
    archive.optional(Column::exit_code, process.exit_code);
    archive.optional(Column::exit_signal, process.exit_signal);
    archive.optional(Column::cpu_usage, process.cpu_usage);
    archive.optional(Column::memory_usage, process.memory_usage);
    archive.enumerator(Column::status, process.status);
    archive.digest(Column::executable_hash, process.executable_hash);
    archive.optional(Column::executable_state, process.executable_state);
    archive.optional(Column::cgroup, process.cgroup);
    archive.optional(Column::container_id, process.container_id);
  }
  archive.required(Column::collection_time, process.collection_time);
  if (event.kind != EventKind::gap) {
    archive.optional(Column::scan_id, process.scan_id);
    archive.optional(Column::parent_name, event.parent_name);
    archive.optional(Column::parent_executable_path, event.parent_executable_path);
    archive.optional(Column::parent_command_line, event.parent_command_line);
  }
}

// All of an event but its texts, and the length in front: fewer than 64 fields of at most 10 bytes each, two keys and a
// digest.
constexpr std::size_t max_bytes_beside_texts = 1024;

// First pass of the writer: one bit an optional field, the lowest bit the first; and the room the second needs.
class Presence {
 public:
  std::uint64_t bits = 0;
  std::size_t max_bytes = max_bytes_beside_texts;

  void base_time(Timestamp) {}
  template <class E>
  void enumerator(Column, E) {}
  template <class T>
  void required(Column, const T& value) {
    make_room(value);
  }
  void own_key(const ProcessKey&) {}
  void optional_if_empty(Column, const std::string& text) {
    add(!text.empty());
    make_room(text);
  }
  void parent_key(const ProcessKey&, const std::optional<ProcessKey>& key) { add(key.has_value()); }
  void digest(Column, const std::optional<std::string>& hex) { add(hex && is_lower_hex_digest(*hex)); }
  template <class T>
  void optional(Column, const std::optional<T>& value) {
    add(value && representable(*value));
    if (value) make_room(*value);
  }

 private:
  void add(bool present) { bits |= static_cast<std::uint64_t>(present) << next_++; }
  void make_room(const std::string& text) { max_bytes += std::min(text.size(), max_text_bytes); }
  void make_room(const Arguments& arguments) { make_room(arguments.nul_terminated()); }
  template <class T>
  void make_room(const T&) {}
  unsigned next_ = 0;
};

// base::ByteWriter's layout, written where the room for it was made: to look for room for each byte would cost more
// than the byte.
class RoomyWriter {
 public:
  explicit RoomyWriter(char* at) : at_(at) {}
  [[nodiscard]] char* at() const { return at_; }
  void u8(std::uint8_t value) { *at_++ = static_cast<char>(value); }
  void u64(std::uint64_t value) {
    for (std::size_t i = 0; i < sizeof value; ++i) u8(static_cast<std::uint8_t>(value >> (8 * i)));
  }
  void f64(double value) { u64(std::bit_cast<std::uint64_t>(value)); }
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) u8(static_cast<std::uint8_t>(value | 0x80));
    u8(static_cast<std::uint8_t>(value));
  }
  void zigzag(std::int64_t value) {
    varint((static_cast<std::uint64_t>(value) << 1) ^ static_cast<std::uint64_t>(value >> 63));
  }
  void raw(std::string_view bytes) { at_ = std::ranges::copy(bytes, at_).out; }
  void bytes(std::string_view value) {
    varint(value.size());
    raw(value);
  }

 private:
  char* at_;
};

template <class Out>
void put_key_after(Out& out, const ProcessKey& key, const BootId& before) {
  const bool other_boot = key.boot != before;
  out.u8(other_boot ? 1 : 0);
  if (other_boot) out.raw({reinterpret_cast<const char*>(key.boot.data()), key.boot.size()});
  out.varint(key.pid);
  out.varint(key.start_ticks);
}

class Writer {
 public:
  Writer(char* at, std::uint64_t bits) : out_(at), bits_(bits) { out_.varint(bits); }
  [[nodiscard]] char* at() const { return out_.at(); }

  void base_time(Timestamp time) {
    base_ = time;
    out_.u64(static_cast<std::uint64_t>(time.ns));
  }
  template <class E>
  void enumerator(Column, E value) {
    out_.u8(static_cast<std::uint8_t>(value));
  }
  template <class T>
  void required(Column, const T& value) {
    put(value);
  }
  void own_key(const ProcessKey& key) {
    out_.raw({reinterpret_cast<const char*>(key.boot.data()), key.boot.size()});
    out_.varint(key.pid);
    out_.varint(key.start_ticks);
  }
  void optional_if_empty(Column, const std::string& text) {
    if (take()) put(text);
  }
  void parent_key(const ProcessKey& own, const std::optional<ProcessKey>& key) {
    if (take()) put_key_after(out_, *key, own.boot);
  }
  void digest(Column, const std::optional<std::string>& hex) {
    if (!take()) return;
    const auto nibble = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
    for (std::size_t i = 0; i < hex->size(); i += 2) {
      out_.u8(static_cast<std::uint8_t>(nibble((*hex)[i]) << 4 | nibble((*hex)[i + 1])));
    }
  }
  template <class T>
  void optional(Column, const std::optional<T>& value) {
    if (take()) put(*value);
  }

 private:
  bool take() {
    const bool present = (bits_ & 1) != 0;
    bits_ >>= 1;
    return present;
  }
  void put(const std::string& text) { out_.bytes(std::string_view(text).substr(0, max_text_bytes)); }
  void put(const Arguments& arguments) {
    const std::string_view bytes = arguments.nul_terminated();
    if (bytes.size() <= max_text_bytes) return out_.bytes(bytes);
    out_.varint(max_text_bytes);
    out_.raw(bytes.substr(0, max_text_bytes - 1));
    out_.u8(0);
  }
  // Times lie close to the event's own; the difference wraps, so that any two times have one.
  void put(Timestamp time) {
    out_.zigzag(static_cast<std::int64_t>(static_cast<std::uint64_t>(time.ns) - static_cast<std::uint64_t>(base_.ns)));
  }
  void put(std::uint32_t value) { out_.varint(value); }
  void put(std::uint64_t value) { out_.varint(value); }
  void put(std::int32_t value) { out_.zigzag(value); }
  // 0.0 and -0.0 are equal, and equal events have equal bytes.
  void put(double value) { out_.f64(value == 0.0 ? 0.0 : value); }
  void put(ExecutableState state) { out_.u8(static_cast<std::uint8_t>(state)); }

  RoomyWriter out_;
  std::uint64_t bits_;
  Timestamp base_;
};

constexpr std::uint8_t last_enumerator(EventKind) { return static_cast<std::uint8_t>(EventKind::fork); }
constexpr std::uint8_t last_enumerator(EventSource) { return static_cast<std::uint8_t>(EventSource::import); }
constexpr std::uint8_t last_enumerator(ProcessStatus) { return static_cast<std::uint8_t>(ProcessStatus::exited); }
constexpr std::uint8_t last_enumerator(ExecutableState) { return static_cast<std::uint8_t>(ExecutableState::kernel); }

// Keeps the first failure; after it every value is left as it is.
class Reader {
 public:
  explicit Reader(base::ByteReader& in) : in_(in), bits_(in.varint()) {
    if (!in_.ok()) set_failed("presence bitmap", "short or malformed");
  }

  void base_time(Timestamp& time) {
    time.ns = static_cast<std::int64_t>(in_.u64());
    base_ = time;
    check(Column::time);
  }
  template <class E>
  void enumerator(Column column, E& value) {
    const std::uint8_t number = in_.u8();
    if (!check(column)) return;
    if (number < 1 || number > last_enumerator(E{})) return refuse(column, "unknown value " + std::to_string(number));
    value = static_cast<E>(number);
  }
  template <class T>
  void required(Column column, T& value) {
    get(column, value);
    check(column);
  }
  void own_key(ProcessKey& key) {
    const auto boot = in_.raw(key.boot.size());
    std::copy(boot.begin(), boot.end(), key.boot.begin());
    get(Column::process_key, key.pid);
    key.start_ticks = in_.varint();
    check(Column::process_key);
  }
  template <class Text>
  void optional_if_empty(Column column, Text& text) {
    text = {};
    if (!take()) return;
    required(column, text);
    if (!failed() && text.empty()) refuse(column, "present but empty");
  }
  void parent_key(const ProcessKey& own, std::optional<ProcessKey>& key) {
    key.reset();
    if (!take()) return;
    if (!get_key(in_, key.emplace(), own.boot)) in_.set_failed();
    check(Column::parent_key);
  }
  void digest(Column column, std::optional<std::string>& hex) {
    hex.reset();
    if (take()) hex = base::to_hex(in_.raw(sizeof(base::Sha256Digest)));
    check(column);
  }
  void digest(Column column, std::optional<std::string_view>& bytes) {
    bytes.reset();
    if (take()) bytes = in_.raw(sizeof(base::Sha256Digest));
    check(column);
  }
  template <class T>
  void optional(Column column, std::optional<T>& value) {
    value.reset();
    if (take()) required(column, value.emplace());
  }

  Result<void> finish() {
    if (!failed() && bits_ != 0)
      set_failed("presence bitmap", "unknown or misplaced fields (made by a newer version?)");
    if (failed()) return fail(Errc::corrupt, error_);
    return {};
  }

 private:
  // Whatever fails stops the input, and every look at it is followed by a check() that says what it was.
  [[nodiscard]] bool failed() const { return !in_.ok(); }
  void set_failed(std::string_view where, std::string_view what) {
    if (error_.empty()) error_.append(where).append(": ").append(what);
    in_.set_failed();
  }
  void refuse(Column column, std::string_view what) { set_failed(info(column).name, what); }
  bool check(Column column) {
    if (!in_.ok()) refuse(column, "short or malformed");
    return !failed();
  }
  bool take() {
    const bool present = !failed() && (bits_ & 1) != 0;
    bits_ >>= 1;
    return present;
  }
  // Before anything is allocated for it.
  std::string_view bounded_text(Column column) {
    const std::uint64_t size = in_.varint();
    if (!in_.ok()) return {};
    if (size > max_text_bytes) {
      refuse(column, "text of " + std::to_string(size) + " bytes, at most " + std::to_string(max_text_bytes));
      return {};
    }
    return in_.raw(static_cast<std::size_t>(size));
  }
  template <class Text>
    requires is_text<Text>
  void get(Column column, Text& text) {
    text = bounded_text(column);
  }
  std::string_view nul_terminated(Column column) {
    const auto bytes = bounded_text(column);
    if (!bytes.empty() && bytes.back() != '\0') refuse(column, "does not end in NUL");
    return bytes;
  }
  void get(Column column, Arguments& arguments) { arguments = Arguments::from_nul_separated(nul_terminated(column)); }
  void get(Column column, ArgumentsView& arguments) { arguments.bytes = nul_terminated(column); }
  void get(Column, Timestamp& time) {
    time.ns =
        static_cast<std::int64_t>(static_cast<std::uint64_t>(in_.zigzag()) + static_cast<std::uint64_t>(base_.ns));
  }
  void get(Column column, std::uint32_t& value) {
    const std::uint64_t number = in_.varint();
    if (number > std::numeric_limits<std::uint32_t>::max()) return refuse(column, "above 32 bits");
    value = static_cast<std::uint32_t>(number);
  }
  void get(Column column, std::uint64_t& value) {
    value = in_.varint();
    if (value > largest_sql_integer) refuse(column, "above 63 bits");
  }
  void get(Column column, std::int32_t& value) {
    const std::int64_t number = in_.zigzag();
    if (number != static_cast<std::int32_t>(number)) return refuse(column, "above 32 bits");
    value = static_cast<std::int32_t>(number);
  }
  void get(Column column, double& value) {
    value = in_.f64();
    if (!std::isfinite(value) || (value == 0.0 && std::signbit(value))) refuse(column, "not a canonical number");
  }
  void get(Column column, ExecutableState& state) { enumerator(column, state); }

  base::ByteReader& in_;
  std::uint64_t bits_;
  Timestamp base_;
  std::string error_;
};

}  // namespace

void put_key(base::ByteWriter& out, const ProcessKey& key, const BootId& before) { put_key_after(out, key, before); }

bool get_key(base::ByteReader& in, ProcessKey& key, const BootId& before) {
  const std::uint8_t other_boot = in.u8();
  if (other_boot > 1) return false;
  key.boot = before;
  if (other_boot == 1) {
    const auto boot = in.raw(key.boot.size());
    std::copy(boot.begin(), boot.end(), key.boot.begin());
    if (key.boot == before) return false;
  }
  const std::uint64_t pid = in.varint();
  if (pid > std::numeric_limits<Pid>::max()) return false;
  key.pid = static_cast<Pid>(pid);
  key.start_ticks = in.varint();
  return in.ok();
}

void encode_event(const ProcessEvent& event, std::string& out) {
  Presence presence;
  visit(presence, event);
  const std::size_t begin = out.size();
  out.resize_and_overwrite(begin + presence.max_bytes, [&](char* bytes, std::size_t) {
    char* const length_at = bytes + begin;
    // The length is known only afterwards. Nearly all are of two bytes; for the others the event moves.
    constexpr std::size_t usual_length_bytes = 2;
    char* const body = length_at + usual_length_bytes;
    Writer writer(body, presence.bits);
    visit(writer, event);
    const auto size = static_cast<std::size_t>(writer.at() - body);
    std::size_t length_bytes = 1;
    for (auto rest = size; rest >= 0x80; rest >>= 7) ++length_bytes;
    if (length_bytes != usual_length_bytes) std::memmove(length_at + length_bytes, body, size);
    RoomyWriter(length_at).varint(size);
    return begin + length_bytes + size;
  });
}

namespace {

template <class Event>
Result<void> decode(base::ByteReader& in, Event& event) {
  const auto bytes = in.bytes();
  if (!in.ok()) return fail(Errc::corrupt, "length: short or malformed");
  base::ByteReader body(bytes);
  Reader reader(body);
  visit(reader, event);
  DE_CHECK(reader.finish());
  if (!body.at_end()) return fail(Errc::corrupt, std::to_string(body.remaining()) + " bytes after the last field");
  return {};
}

}  // namespace

Result<void> decode_event(base::ByteReader& in, ProcessEvent& event) { return decode(in, event); }

Result<void> decode_event(base::ByteReader& in, EventView& event) {
  const std::size_t begin = in.position();
  const auto rest = in.rest();
  DE_CHECK(decode(in, event));
  event.bytes = rest.substr(0, in.position() - begin);
  return {};
}

}  // namespace daemoneye::event
