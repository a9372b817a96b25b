# One static library a room: src/NAME/**.cc. Beside the sources: *_test.cc (one gtest program a room), *_fuzz.cc (one
# fuzzer each; without DAEMONEYE_FUZZ it replays its seed corpus as a test), *_bench.cc (one benchmark program a room).
#   daemoneye_room(NAME DEPS rooms… LIBS libraries… [TEST_LIBS libraries…] [BPF objects…] [PROTO files…])
find_program(BPF_CLANG NAMES clang-19 clang REQUIRED)
find_program(BPFTOOL bpftool PATHS /usr/sbin REQUIRED)

function(daemoneye_bpf target object)
  set(source ${CMAKE_SOURCE_DIR}/bpf/${object}.bpf.c)
  set(out ${CMAKE_BINARY_DIR}/bpf)
  file(MAKE_DIRECTORY ${out})
  file(GLOB headers CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/bpf/*.h)
  add_custom_command(OUTPUT ${out}/${object}.skel.h
    COMMAND ${BPF_CLANG} -g -O2 -target bpf -mcpu=v3 -D__TARGET_ARCH_x86 -Wall -Werror
      -I${CMAKE_SOURCE_DIR}/bpf -I${CMAKE_SOURCE_DIR}/src
      -MD -MF ${out}/${object}.d -MT ${out}/${object}.skel.h -c ${source} -o ${out}/${object}.bpf.o
    COMMAND ${BPFTOOL} gen skeleton ${out}/${object}.bpf.o name ${object}_bpf > ${out}/${object}.skel.h
    DEPENDS ${source} ${headers} DEPFILE ${out}/${object}.d VERBATIM)
  add_custom_target(bpf_${object} DEPENDS ${out}/${object}.skel.h)
  add_dependencies(${target} bpf_${object})
  target_include_directories(${target} SYSTEM PRIVATE ${out})
endfunction()

function(daemoneye_proto target name)
  set(out ${CMAKE_BINARY_DIR}/proto)
  file(MAKE_DIRECTORY ${out})
  add_custom_command(OUTPUT ${out}/${name}.pb.cc ${out}/${name}.pb.h
    COMMAND protobuf::protoc --cpp_out=${out} -I${CMAKE_SOURCE_DIR}/proto ${CMAKE_SOURCE_DIR}/proto/${name}.proto
    DEPENDS ${CMAKE_SOURCE_DIR}/proto/${name}.proto VERBATIM)
  target_sources(${target} PRIVATE ${out}/${name}.pb.cc)
  # Generated code is not held to our warnings.
  set_source_files_properties(${out}/${name}.pb.cc PROPERTIES COMPILE_OPTIONS -w SKIP_PRECOMPILE_HEADERS ON)
  target_include_directories(${target} SYSTEM PRIVATE ${out})
endfunction()

add_custom_target(unit_tests)  # what `ctest -L unit` runs

function(daemoneye_room name)
  cmake_parse_arguments(ROOM "" "" "DEPS;LIBS;TEST_LIBS;BPF;PROTO" ${ARGN})
  set(folder ${CMAKE_SOURCE_DIR}/src/${name})
  file(GLOB_RECURSE all CONFIGURE_DEPENDS ${folder}/*.cc)
  set(sources ${all})
  list(FILTER sources EXCLUDE REGEX "_(test|fuzz|bench)\\.cc$")
  add_library(${name} STATIC ${sources})
  target_link_libraries(${name} PUBLIC daemoneye_options ${ROOM_DEPS} PRIVATE ${ROOM_LIBS} Threads::Threads)
  daemoneye_precompiled(${name} pch_rooms)
  foreach(object IN LISTS ROOM_BPF)
    daemoneye_bpf(${name} ${object})
  endforeach()
  foreach(file IN LISTS ROOM_PROTO)
    daemoneye_proto(${name} ${file})
  endforeach()

  set(tests ${all})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  if(tests AND NOT DAEMONEYE_FUZZ)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE ${name} ${ROOM_LIBS} ${ROOM_TEST_LIBS} GTest::gmock GTest::gtest_main Threads::Threads)
    target_compile_definitions(${name}_test PRIVATE DAEMONEYE_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
    daemoneye_precompiled(${name}_test pch_tests)
    if(DAEMONEYE_SANITIZE)
      # What is looked for is in the rooms; the tests' own code would take a third longer to compile.
      target_compile_options(${name}_test PRIVATE -fno-sanitize=undefined)
    endif()
    add_dependencies(unit_tests ${name}_test)
    gtest_discover_tests(${name}_test TEST_PREFIX ${name}. DISCOVERY_MODE PRE_TEST
      PROPERTIES LABELS unit TIMEOUT 300)
  endif()

  set(fuzzers ${all})
  list(FILTER fuzzers INCLUDE REGEX "_fuzz\\.cc$")
  foreach(fuzzer IN LISTS fuzzers)
    cmake_path(GET fuzzer STEM stem)
    set(target fuzz_${name}_${stem})
    set(corpus ${CMAKE_SOURCE_DIR}/tests/data/fuzz/${name}_${stem})
    if(DAEMONEYE_FUZZ)
      add_executable(${target} ${fuzzer})
      target_link_options(${target} PRIVATE -fsanitize=fuzzer)
    else()
      add_executable(${target} ${fuzzer} ${CMAKE_SOURCE_DIR}/tests/fuzz_replay.cc)
      add_test(NAME fuzz_replay.${name}_${stem} COMMAND ${target} ${corpus})
      set_tests_properties(fuzz_replay.${name}_${stem} PROPERTIES LABELS unit)
      add_dependencies(unit_tests ${target})
    endif()
    target_link_libraries(${target} PRIVATE ${name} ${ROOM_LIBS})
  endforeach()

  set(benches ${all})
  list(FILTER benches INCLUDE REGEX "_bench\\.cc$")
  if(benches AND NOT DAEMONEYE_FUZZ AND NOT DAEMONEYE_SANITIZE)
    add_executable(${name}_bench ${benches})
    target_link_libraries(${name}_bench PRIVATE ${name} ${ROOM_LIBS} benchmark::benchmark_main)
  endif()
endfunction()

#   daemoneye_app(NAME [OUTPUT program] [COMMON] DEPS rooms… LIBS libraries…): apps/NAME/*.cc, and apps/common/*.cc
function(daemoneye_app name)
  cmake_parse_arguments(APP "COMMON" "OUTPUT" "DEPS;LIBS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/apps/${name}/*.cc)
  if(APP_COMMON)
    file(GLOB common CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/apps/common/*.cc)
    list(APPEND sources ${common})
  endif()
  if(DAEMONEYE_FUZZ)
    return()
  endif()
  if(NOT APP_OUTPUT)
    set(APP_OUTPUT ${name})
  endif()
  set(target app_${name})
  add_executable(${target} ${sources})
  set_target_properties(${target} PROPERTIES OUTPUT_NAME ${APP_OUTPUT})
  if(NOT TARGET programs)
    add_custom_target(programs)  # what `make run` needs: no tests
  endif()
  add_dependencies(programs ${target})
  target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR}/apps)
  target_link_libraries(${target} PRIVATE ${APP_DEPS} ${APP_LIBS} Threads::Threads)
endfunction()
