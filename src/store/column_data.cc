#include "store/column_data.h"

#include <limits>

#include "base/bytes.h"

namespace daemoneye::store {
namespace {

bool read_presence(base::ByteReader& in, std::size_t rows, std::vector<std::uint8_t>& present) {
  const std::uint8_t kind = in.u8();
  if (!in.ok()) return false;
  switch (static_cast<Presence>(kind)) {
    case Presence::all: return true;
    case Presence::none: present.assign(rows, 0); return true;
    case Presence::bitmap: {
      const auto bits = in.raw((rows + 7) / 8);
      if (!in.ok()) return false;
      present.resize(rows);
      for (std::size_t row = 0; row < rows; ++row) {
        present[row] = static_cast<unsigned char>(bits[row / 8]) >> (row % 8) & 1;
      }
      return true;
    }
  }
  return false;
}

bool read_integers(base::ByteReader& in, std::size_t rows, ColumnData& data, const ColumnData* times) {
  if (!read_presence(in, rows, data.present)) return false;
  data.integers.resize(rows);
  std::uint64_t before = 0;
  for (std::size_t row = 0; row < rows && in.ok(); ++row) {
    if (!data.is_present(row)) continue;
    if (times != nullptr) before = static_cast<std::uint64_t>(times->integers[row]);
    before += static_cast<std::uint64_t>(in.zigzag());
    data.integers[row] = static_cast<std::int64_t>(before);
  }
  return in.at_end();
}

std::uint8_t last_enumerator(event::Column column) {
  switch (column) {
    case event::Column::kind: return static_cast<std::uint8_t>(event::EventKind::fork);
    case event::Column::source: return static_cast<std::uint8_t>(event::EventSource::import);
    case event::Column::status: return static_cast<std::uint8_t>(event::ProcessStatus::exited);
    case event::Column::executable_state: return static_cast<std::uint8_t>(event::ExecutableState::kernel);
    default: return 0;
  }
}

bool enumerators_known(const ColumnData& data, event::Column column) {
  for (std::size_t row = 0; row < data.integers.size(); ++row) {
    if (!data.is_present(row)) {
      if (column != event::Column::executable_state) return false;
    } else if (data.integers[row] < 1 || data.integers[row] > last_enumerator(column)) {
      return false;
    }
  }
  return true;
}

bool read_reals(base::ByteReader& in, std::size_t rows, ColumnData& data) {
  if (!read_presence(in, rows, data.present)) return false;
  data.reals.resize(rows);
  for (std::size_t row = 0; row < rows && in.ok(); ++row) {
    if (data.is_present(row)) data.reals[row] = in.f64();
  }
  return in.at_end();
}

bool read_codes(base::ByteReader& in, std::size_t rows, std::size_t entries, ColumnData& data) {
  data.rows.resize(rows);
  std::size_t next = 0;
  for (auto& row : data.rows) {
    const std::uint64_t code = in.varint();
    if (code == code_null)
      row = null_entry;
    else if (code == code_next)
      row = static_cast<std::uint32_t>(next++);
    else
      row = code - code_first < next ? static_cast<std::uint32_t>(code - code_first) : null_entry;
    // An entry is used when it is first met, so a later code names one of those before.
    if (!in.ok() || next > entries || (code >= code_first && row == null_entry)) return false;
  }
  return in.at_end() && next == entries;
}

bool read_texts(base::ByteReader& in, std::size_t rows, ColumnData& data) {
  const std::uint64_t count = in.varint();
  if (!in.ok() || count > rows || count > in.remaining() / 2) return false;
  data.entries.reserve(static_cast<std::size_t>(count));
  for (std::uint64_t i = 0; i < count; ++i) {
    data.entries.push_back(in.bytes());
    if (in.u8() != 0 || !in.ok()) return false;
  }
  return read_codes(in, rows, data.entries.size(), data);
}

bool read_keys(base::ByteReader& in, std::size_t rows, ColumnData& data) {
  const std::uint64_t boot_count = in.varint();
  if (!in.ok() || boot_count > rows || boot_count > in.remaining() / sizeof(event::BootId)) return false;
  std::vector<event::BootId> boots(static_cast<std::size_t>(boot_count));
  for (auto& boot : boots) {
    const auto bytes = in.raw(boot.size());
    std::copy(bytes.begin(), bytes.end(), boot.begin());
  }
  const std::uint64_t count = in.varint();
  if (!in.ok() || count > rows || count > in.remaining() / 3) return false;
  data.keys.resize(static_cast<std::size_t>(count));
  std::uint64_t ticks = 0;
  for (auto& key : data.keys) {
    const std::uint64_t boot = in.varint(), pid = in.varint();
    ticks += static_cast<std::uint64_t>(in.zigzag());
    if (!in.ok() || boot >= boots.size() || pid > std::numeric_limits<event::Pid>::max()) return false;
    key = {boots[static_cast<std::size_t>(boot)], static_cast<event::Pid>(pid), ticks};
  }
  return read_codes(in, rows, data.keys.size(), data);
}

}  // namespace

std::size_t ColumnData::bytes() const {
  return present.capacity() + integers.capacity() * sizeof(std::int64_t) + reals.capacity() * sizeof(double) +
         rows.capacity() * sizeof(std::uint32_t) + body.capacity() + entries.capacity() * sizeof(std::string_view) +
         keys.capacity() * sizeof(event::ProcessKey);
}

Result<std::unique_ptr<ColumnData>> decode_column(event::Column column, std::string body, std::size_t rows,
                                                  const ColumnData* times) {
  auto data = std::make_unique<ColumnData>();
  data->body = std::move(body);
  base::ByteReader in(data->body);
  bool good = false;
  const auto encoding = encoding_of(column);
  switch (encoding) {
    case Encoding::none: return fail(Errc::internal, "column without a chunk");
    case Encoding::time_based: good = times != nullptr && read_integers(in, rows, *data, times); break;
    case Encoding::integer:
      // Every event has a time: others count on it.
      good = read_integers(in, rows, *data, nullptr) && (column != event::Column::time || data->present.empty());
      break;
    case Encoding::enumerator:
      good = read_integers(in, rows, *data, nullptr) && enumerators_known(*data, column);
      break;
    case Encoding::real: good = read_reals(in, rows, *data); break;
    case Encoding::text: good = read_texts(in, rows, *data); break;
    case Encoding::key: good = read_keys(in, rows, *data); break;
  }
  if (!good) {
    return fail(Errc::corrupt,
                "column " + std::string(event::info(column).name) + ": short, malformed or out of range");
  }
  if (encoding != Encoding::text) {
    data->body.clear();
    data->body.shrink_to_fit();
  }
  return data;
}

}  // namespace daemoneye::store
