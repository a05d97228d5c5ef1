// Door to KVM: the installed <linux/kvm.h>, and under names of our own all that older ones lack.
//
// Debian 12 installs the header of Linux 6.1, which knows no guest_memfd, no memory attributes, no pre-fault and no
// TDX. Newer headers define some of those names as enumerators and structures, which the preprocessor cannot test for.
// Hence everything newer than 6.1 is declared here a second time, always, as TDXD_… and tdxd_…: the two never collide.
#pragma once
#include <errno.h>
#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

// ---- structures newer than Linux 6.1 (layouts are kernel ABI) ----------------------------------------------------

struct tdxd_kvm_userspace_memory_region2 {
    uint32_t slot;
    uint32_t flags;
    uint64_t guest_phys_addr;
    uint64_t memory_size;
    uint64_t userspace_addr;
    uint64_t guest_memfd_offset;
    uint32_t guest_memfd;
    uint32_t pad1;
    uint64_t pad2[14];
};

struct tdxd_kvm_create_guest_memfd {
    uint64_t size;
    uint64_t flags;
    uint64_t reserved[6];
};

struct tdxd_kvm_memory_attributes {
    uint64_t address;
    uint64_t size;
    uint64_t attributes;
    uint64_t flags;
};

struct tdxd_kvm_pre_fault_memory {
    uint64_t gpa;
    uint64_t size;
    uint64_t flags;
    uint64_t padding[5];
};

struct tdxd_kvm_tdx_cmd {
    uint32_t id;
    uint32_t flags;
    uint64_t data;
    uint64_t hw_error;
};

// Followed by `nent` struct kvm_cpuid_entry2.
struct tdxd_kvm_tdx_capabilities {
    uint64_t supported_attrs;
    uint64_t supported_xfam;
    uint64_t kernel_tdvmcallinfo_1_r11;
    uint64_t user_tdvmcallinfo_1_r11;
    uint64_t kernel_tdvmcallinfo_1_r12;
    uint64_t user_tdvmcallinfo_1_r12;
    uint64_t supported_caps;  // proposed, in no released kernel; zero there
    uint64_t reserved[249];
    uint32_t nent;
    uint32_t padding;
};

// Followed by `nent` struct kvm_cpuid_entry2.
struct tdxd_kvm_tdx_init_vm {
    uint64_t attributes;
    uint64_t xfam;
    uint64_t mrconfigid[6];
    uint64_t mrowner[6];
    uint64_t mrownerconfig[6];
    uint64_t reserved[12];
    uint32_t nent;
    uint32_t padding;
};

struct tdxd_kvm_tdx_init_mem_region {
    uint64_t source_addr;
    uint64_t gpa;
    uint64_t nr_pages;
};

// The exit union of struct kvm_run, as far as it is newer than 6.1. Placed at TDXD_KVM_RUN_EXIT.
struct tdxd_kvm_exit_memory_fault {
    uint64_t flags;
    uint64_t gpa;
    uint64_t size;
};

struct tdxd_kvm_exit_tdx {
    uint64_t flags;
    uint64_t nr;
    uint64_t arguments[6];
};

struct tdxd_kvm_exit_hypercall {
    uint64_t nr;
    uint64_t args[6];
    uint64_t ret;
    uint64_t flags;
};

struct tdxd_kvm_exit_system_event {
    uint32_t type;
    uint32_t ndata;
    uint64_t data[16];
};

// ---- constants ---------------------------------------------------------------------------------------------------

#define TDXD_KVM_API_VERSION 12

#define TDXD_KVM_MEM_LOG_DIRTY_PAGES 1
#define TDXD_KVM_MEM_READONLY 2
#define TDXD_KVM_MEM_GUEST_MEMFD 4

#define TDXD_GUEST_MEMFD_FLAG_MMAP 1
#define TDXD_GUEST_MEMFD_FLAG_INIT_SHARED 2

#define TDXD_KVM_MEMORY_ATTRIBUTE_PRIVATE 8
#define TDXD_KVM_MEMORY_EXIT_FLAG_PRIVATE 8

#define TDXD_KVM_TDX_CAPABILITIES 0
#define TDXD_KVM_TDX_INIT_VM 1
#define TDXD_KVM_TDX_INIT_VCPU 2
#define TDXD_KVM_TDX_INIT_MEM_REGION 3
#define TDXD_KVM_TDX_FINALIZE_VM 4
#define TDXD_KVM_TDX_GET_CPUID 5
#define TDXD_KVM_TDX_TERMINATE_VM 6  // proposed; in no released kernel
#define TDXD_KVM_TDX_MEASURE_MEMORY_REGION 1
#define TDXD_KVM_TDX_CAP_TERMINATE_VM 1  // bit 0 of supported_caps; proposed

#define TDXD_KVM_HC_MAP_GPA_RANGE 12

#define TDXD_KVM_EXIT_IO 2
#define TDXD_KVM_EXIT_HYPERCALL 3
#define TDXD_KVM_EXIT_HLT 5
#define TDXD_KVM_EXIT_MMIO 6
#define TDXD_KVM_EXIT_SHUTDOWN 8
#define TDXD_KVM_EXIT_FAIL_ENTRY 9
#define TDXD_KVM_EXIT_INTR 10
#define TDXD_KVM_EXIT_INTERNAL_ERROR 17
#define TDXD_KVM_EXIT_SYSTEM_EVENT 24
#define TDXD_KVM_EXIT_MEMORY_FAULT 39
#define TDXD_KVM_EXIT_TDX 40

// Where the exit union of struct kvm_run begins.
#define TDXD_KVM_RUN_EXIT 32

// ---- the header agrees with this file ---------------------------------------------------------------------------

_Static_assert(sizeof(struct tdxd_kvm_userspace_memory_region2) == 160, "region2");
_Static_assert(offsetof(struct tdxd_kvm_tdx_capabilities, nent) == 2048, "tdx_capabilities");
_Static_assert(offsetof(struct tdxd_kvm_tdx_init_vm, nent) == 256, "tdx_init_vm");
_Static_assert(offsetof(struct kvm_run, immediate_exit) == 1, "kvm_run.immediate_exit");
_Static_assert(offsetof(struct kvm_run, exit_reason) == 8, "kvm_run.exit_reason");
_Static_assert(offsetof(struct kvm_run, hw) == TDXD_KVM_RUN_EXIT, "kvm_run exit union");
_Static_assert(sizeof(struct kvm_cpuid_entry2) == 40, "kvm_cpuid_entry2");
_Static_assert(sizeof(struct kvm_userspace_memory_region) == 32, "kvm_userspace_memory_region");
_Static_assert(sizeof(struct kvm_enable_cap) == 104, "kvm_enable_cap");

// ---- calls -------------------------------------------------------------------------------------------------------

// The argument is a number. Results are the kernel's; failures are -errno.
static inline int tdxd_ioctl_value(int fd, uint32_t request, uint64_t value) {
    int result = ioctl(fd, (unsigned long)request, (unsigned long)value);
    return result >= 0 ? result : -errno;
}

// The argument is a structure.
static inline int tdxd_ioctl_pointer(int fd, uint32_t request, void *argument) {
    int result = ioctl(fd, (unsigned long)request, argument);
    return result >= 0 ? result : -errno;
}

// ---- struct kvm_run ----------------------------------------------------------------------------------------------
// The page is shared with the kernel, and `immediate_exit` with other threads; hence the atomic stores.

static inline void tdxd_run_set_immediate_exit(void *run, int on) {
    __atomic_store_n((uint8_t *)run + 1, (uint8_t)(on != 0), __ATOMIC_SEQ_CST);
}

static inline uint32_t tdxd_run_exit_reason(const void *run) {
    return __atomic_load_n((const uint32_t *)((const char *)run + 8), __ATOMIC_ACQUIRE);
}

static inline void tdxd_run_clear_exit_reason(void *run) {
    __atomic_store_n((uint32_t *)((char *)run + 8), 0, __ATOMIC_RELEASE);
}

// The address is that of the byte.
static inline int tdxd_run_immediate_exit(const void *byte) {
    return __atomic_load_n((const uint8_t *)byte, __ATOMIC_SEQ_CST);
}

static inline void tdxd_run_set_exit_reason(void *run, uint32_t reason) {
    __atomic_store_n((uint32_t *)((char *)run + 8), reason, __ATOMIC_RELEASE);
}
