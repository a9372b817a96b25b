#include <sqlite3.h>

#include "db/database.h"

namespace daemoneye::db {
namespace {

// An empty view may hold a null pointer, which SQLite would take for NULL.
const char* data_of(std::string_view value) { return value.data() == nullptr ? "" : value.data(); }

}  // namespace

Statement::Statement(Statement&& other) noexcept
    : handle_(std::exchange(other.handle_, nullptr)), bound_(std::move(other.bound_)) {}

Statement& Statement::operator=(Statement&& other) noexcept {
  if (this != &other) {
    sqlite3_finalize(handle_);
    handle_ = std::exchange(other.handle_, nullptr);
    bound_ = std::move(other.bound_);
  }
  return *this;
}

Statement::~Statement() { sqlite3_finalize(handle_); }

Statement& Statement::keep(int code) {
  if (code != SQLITE_OK && bound_) bound_ = std::unexpected(last_error(sqlite3_db_handle(handle_), "bind"));
  return *this;
}

Statement& Statement::bind(int index, std::int64_t value) { return keep(sqlite3_bind_int64(handle_, index, value)); }
Statement& Statement::bind(int index, double value) { return keep(sqlite3_bind_double(handle_, index, value)); }
Statement& Statement::bind_null(int index) { return keep(sqlite3_bind_null(handle_, index)); }

Statement& Statement::bind_text(int index, std::string_view value) {
  return keep(sqlite3_bind_text64(handle_, index, data_of(value), value.size(), SQLITE_TRANSIENT, SQLITE_UTF8));
}

Statement& Statement::bind_blob(int index, std::string_view value) {
  return keep(sqlite3_bind_blob64(handle_, index, data_of(value), value.size(), SQLITE_TRANSIENT));
}

Statement& Statement::bind_blob_static(int index, std::string_view value) {
  return keep(sqlite3_bind_blob64(handle_, index, data_of(value), value.size(), SQLITE_STATIC));
}

Result<bool> Statement::step() {
  if (!bound_) return std::unexpected(bound_.error());
  const int code = sqlite3_step(handle_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  const char* sql = sqlite3_sql(handle_);
  std::string doing(sql == nullptr ? "statement" : sql);
  if (doing.size() > 60) doing = doing.substr(0, 57) + "...";
  return std::unexpected(last_error(sqlite3_db_handle(handle_), doing));
}

Result<void> Statement::run() {
  while (true) {
    auto row = step();
    if (!row || !*row) {
      reset();
      if (!row) return std::unexpected(std::move(row).error());
      return {};
    }
  }
}

void Statement::reset() {
  sqlite3_reset(handle_);
  sqlite3_clear_bindings(handle_);
  bound_ = {};
}

bool Statement::is_null(int column) const { return sqlite3_column_type(handle_, column) == SQLITE_NULL; }
std::int64_t Statement::integer(int column) const { return sqlite3_column_int64(handle_, column); }
double Statement::real(int column) const { return sqlite3_column_double(handle_, column); }

std::string_view Statement::text(int column) const {
  const auto* bytes = sqlite3_column_text(handle_, column);
  if (bytes == nullptr) return {};
  return {reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(sqlite3_column_bytes(handle_, column))};
}

std::string_view Statement::blob(int column) const {
  const void* bytes = sqlite3_column_blob(handle_, column);
  if (bytes == nullptr) return {};
  return {static_cast<const char*>(bytes), static_cast<std::size_t>(sqlite3_column_bytes(handle_, column))};
}

}  // namespace daemoneye::db
