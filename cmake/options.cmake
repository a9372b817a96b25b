# Language, warnings, hardening, sanitizers, ccache, mold.
set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_CXX_FLAGS_RELEASE "-O2")
set(CMAKE_C_FLAGS_RELEASE "-O2")
set(CMAKE_CXX_FLAGS_DEBUG "-Og -g1")
set(CMAKE_C_FLAGS_DEBUG "-Og -g1")

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
  if(DAEMONEYE_PCH)
    # What ccache needs to be told before it keeps objects made with a precompiled header.
    set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE})
  endif()
endif()
find_program(MOLD mold)
if(MOLD)
  add_link_options(-fuse-ld=mold)
endif()

add_library(daemoneye_options INTERFACE)
target_compile_options(daemoneye_options INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wshadow $<$<BOOL:${DAEMONEYE_WERROR}>:-Werror>)
target_include_directories(daemoneye_options INTERFACE ${CMAKE_SOURCE_DIR}/src)
target_compile_definitions(daemoneye_options INTERFACE DAEMONEYE_VERSION="${PROJECT_VERSION}")

set(hardening -fstack-protector-strong -fstack-clash-protection -fcf-protection=full -ftrivial-auto-var-init=zero
  -D_GLIBCXX_ASSERTIONS)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 warns of uninitialised members of std::optional and std::variant that are not read (GCC bug 80635).
  target_compile_options(daemoneye_options INTERFACE -Wno-maybe-uninitialized)
  if(DAEMONEYE_SANITIZE)
    # With -Og and AddressSanitizer it says the same, and surer, of the arguments of fmt::format.
    target_compile_options(daemoneye_options INTERFACE -Wno-uninitialized)
  endif()
endif()
target_compile_options(daemoneye_options INTERFACE ${hardening})
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # With -O2, g++ 12 sees overflows in std::string's own operator+ (GCC bugs 105329, 105651).
    target_compile_options(daemoneye_options INTERFACE -Wno-array-bounds -Wno-restrict -Wno-stringop-overflow)
  endif()
  target_compile_options(daemoneye_options INTERFACE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)
endif()
add_link_options(-pie -Wl,-z,relro,-z,now,-z,noexecstack)

if(DAEMONEYE_SANITIZE)
  add_compile_options(-fsanitize=${DAEMONEYE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${DAEMONEYE_SANITIZE})
endif()
if(DAEMONEYE_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# Tests are most of what is compiled, and nobody ships them: what is to be fast, hardened and free of undefined behaviour
# are the rooms that they call.
function(daemoneye_test_options target)
  if(CMAKE_BUILD_TYPE STREQUAL "Release")
    target_compile_options(${target} PRIVATE -O0 -Wno-cpp)  # the C library warns that it checks nothing without -O
  endif()
  if(DAEMONEYE_SANITIZE)
    target_compile_options(${target} PRIVATE -fno-sanitize=undefined)
  endif()
endfunction()

# The standard headers that most sources read, and GoogleMock for the tests, compiled once: about a quarter of a build
# from nothing. Not in the presets for developers and fuzzers, so that they find an include that is missing. Libraries and
# programs need one each (-fPIC and -fPIE differ).
if(DAEMONEYE_PCH)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fpch-preprocess>)  # ccache again
  endif()
  add_compile_options(-pthread)  # some libraries ask for it, and all users of a precompiled header must agree
  file(WRITE ${CMAKE_BINARY_DIR}/pch/empty.cc "")
  file(WRITE ${CMAKE_BINARY_DIR}/pch/main.cc "int main() {}\n")
  set(common_headers <algorithm> <array> <chrono> <condition_variable> <cstdint> <deque> <expected> <functional> <map>
    <memory> <mutex> <optional> <random> <set> <string> <string_view> <thread> <unordered_map> <utility> <variant>
    <vector>)
  add_library(pch_rooms STATIC ${CMAKE_BINARY_DIR}/pch/empty.cc)
  target_link_libraries(pch_rooms PRIVATE daemoneye_options Threads::Threads)
  target_precompile_headers(pch_rooms PRIVATE ${common_headers})
  add_executable(pch_tests EXCLUDE_FROM_ALL ${CMAKE_BINARY_DIR}/pch/main.cc)
  target_link_libraries(pch_tests PRIVATE daemoneye_options GTest::gmock Threads::Threads)
  daemoneye_test_options(pch_tests)
  target_precompile_headers(pch_tests PRIVATE ${common_headers} <gtest/gtest.h> <gmock/gmock.h>)
endif()
function(daemoneye_precompiled target like)
  if(DAEMONEYE_PCH)
    target_precompile_headers(${target} REUSE_FROM ${like})
  endif()
endfunction()
