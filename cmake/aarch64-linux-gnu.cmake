# Cross-compiling for 64-bit ARM with Debian's gcc-aarch64-linux-gnu and g++-aarch64-linux-gnu; programs run here
# under qemu-user. The code runs on every ARMv8-A CPU and is scheduled for the Raspberry Pi 4's.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_C_FLAGS_INIT "-mtune=cortex-a72")
set(CMAKE_CXX_FLAGS_INIT "-mtune=cortex-a72")
set(CMAKE_CROSSCOMPILING_EMULATOR "qemu-aarch64-static;-cpu;cortex-a72;-L;/usr/aarch64-linux-gnu")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
