// Shows the programs of a process a processor without AVX-512 and AMX, so that engines without a
// switch of their own can be timed with AVX2 beside this one, all in one process:
//
//   cc -O2 -shared -fPIC -o without_avx512.so benchmarks/without_avx512.c
//   LD_PRELOAD=$PWD/without_avx512.so python benchmarks/run.py
//
// With -DAMX_ALONE it hides nothing but AMX, with -DVNNI AVX-VNNI as well: products of bytes that
// few processors without AVX-512 have.
//
// The kernel is asked to let the instruction cpuid fault (Linux on x86-64, where /proc/cpuinfo
// lists cpuid_fault); the handler executes it in the program's place and clears bits of the answer.
// Where the kernel cannot, the program does not start.
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <cpuid.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

// Of leaf 7. ebx: F, DQ, IFMA, PF, ER, CD, BW, VL; ecx: VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ;
// edx: 4VNNIW, 4FMAPS, VP2INTERSECT, FP16, and AMX-BF16, AMX-TILE, AMX-INT8. Of its first sub-leaf,
// eax: AVX-VNNI, AVX512-BF16.
enum {
  kEbx = 1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30,
  kEcx = 1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14,
  kEdx = 1u << 2 | 1u << 3 | 1u << 8 | 1u << 23,
  kAmx = 1u << 22 | 1u << 24 | 1u << 25,
#ifdef VNNI
  kSubLeafEax = 1u << 4 | 1u << 5,
#else
  kSubLeafEax = 1u << 5,
#endif
};
static const unsigned kVl = 1u << 31;  // no enumerator holds it

static struct sigaction before;

static void on_fault(int number, siginfo_t* info, void* context) {
  greg_t* registers = ((ucontext_t*)context)->uc_mcontext.gregs;
  const unsigned char* at = (const unsigned char*)registers[REG_RIP];
  if (info->si_code != SI_KERNEL || at[0] != 0x0f || at[1] != 0xa2) {
    sigaction(number, &before, NULL);  // not cpuid: the instruction faults again
    return;
  }
  const unsigned leaf = (unsigned)registers[REG_RAX], sub_leaf = (unsigned)registers[REG_RCX];
  unsigned eax, ebx, ecx, edx;
  syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1);
  __cpuid_count(leaf, sub_leaf, eax, ebx, ecx, edx);
  syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0);
#ifdef AMX_ALONE
  if (leaf == 7 && sub_leaf == 0) edx &= ~kAmx;
  (void)kVl;
#else
  if (leaf == 7 && sub_leaf == 0) {
    ebx &= ~(kEbx | kVl);
    ecx &= ~kEcx;
    edx &= ~(kEdx | kAmx);
  }
  if (leaf == 7 && sub_leaf == 1) eax &= ~kSubLeafEax;
#endif
  registers[REG_RAX] = eax;
  registers[REG_RBX] = ebx;
  registers[REG_RCX] = ecx;
  registers[REG_RDX] = edx;
  registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void hide(void) {
  struct sigaction action = {0};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGSEGV, &action, &before);
  if (syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0) != 0) {
    perror("without_avx512: this kernel or processor cannot hide instructions");
    exit(1);
  }
}
