// One life of a TD by bare ioctls, each with the answer that Linux gives: a test of the seam lab itself, without any
// of tdxd. scripts/test-tdx builds it and runs it in the lab, where the guest on each vCPU does what GUEST below says.
//
// Prints a line for each step; the first answer that differs ends it with status 1.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ckvm.h"

// The server's script; scripts/test-tdx takes it from this line.
// GUEST: write 0x80100000 0x77; accept 0x80000000 8192; write 0x80000000 0x1234; compute 30; output 0x3f8 0x41
// GUEST: share 0x80000000 8192; halt; fatal 0x1234

#define START 0x80000000ull
#define SIZE (16ull << 20)
#define LOADED (START + 0x100000)
#define PAGE 4096ull

#define SET_USER_MEMORY_REGION2 _IOW(KVMIO, 0x49, struct tdxd_kvm_userspace_memory_region2)
#define CREATE_GUEST_MEMFD _IOWR(KVMIO, 0xd4, struct tdxd_kvm_create_guest_memfd)
#define SET_MEMORY_ATTRIBUTES _IOW(KVMIO, 0xd2, struct tdxd_kvm_memory_attributes)
#define VM_TYPES 235
#define MEMORY_ATTRIBUTES 233
#define TDX_VM 5ul

static void expect(bool holds, const char *format, ...) {
    va_list list;
    va_start(list, format);
    printf("%s ", holds ? "ok  " : "FAIL");
    vprintf(format, list);
    printf("\n");
    fflush(stdout);
    va_end(list);
    if (!holds) exit(1);
}

// RESULT is what a call gave, WANTED a value or a negative errno; -1 asks for any value that is no error.
static int answer(const char *what, int result, int wanted) {
    int code = errno;
    const char *text = result < 0 ? strerrorname_np(code) : "no error";
    expect(wanted == -1 ? result >= 0 : wanted < 0 ? result < 0 && code == -wanted : result == wanted,
           "%s: %d, %s", what, result, text);
    return result;
}

static int tdx(int fd, uint32_t id, uint32_t flags, void *data) {
    struct tdxd_kvm_tdx_cmd command = {.id = id, .flags = flags, .data = (uint64_t)data};
    return ioctl(fd, KVM_MEMORY_ENCRYPT_OP, &command);
}

static struct {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 entries[256];
} cpuid;

static struct kvm_cpuid_entry2 *leaf(uint32_t number) {
    for (uint32_t i = 0; i < cpuid.head.nent; i++)
        if (cpuid.entries[i].function == number) return &cpuid.entries[i];
    struct kvm_cpuid_entry2 *entry = &cpuid.entries[cpuid.head.nent++];
    *entry = (struct kvm_cpuid_entry2){.function = number};
    return entry;
}

static void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    expect(sched_setaffinity(0, sizeof set, &set) == 0, "on processor %d", cpu);
}

static void convert(int vm, uint64_t start, uint64_t size, bool is_private) {
    struct tdxd_kvm_memory_attributes change = {
        .address = start, .size = size, .attributes = is_private ? TDXD_KVM_MEMORY_ATTRIBUTE_PRIVATE : 0};
    answer(is_private ? "KVM_SET_MEMORY_ATTRIBUTES private" : "KVM_SET_MEMORY_ATTRIBUTES shared",
           ioctl(vm, SET_MEMORY_ATTRIBUTES, &change), 0);
}

static struct { pthread_t thread; struct kvm_run *run; } kicked;

static void nothing(int signal) { (void)signal; }

// Takes the vCPU out of the guest that halts: flag first, signal then, as every VMM does it.
static void *kick(void *unused) {
    (void)unused;
    usleep(200000);
    kicked.run->immediate_exit = 1;
    pthread_kill(kicked.thread, SIGUSR1);
    return NULL;
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    int kvm = answer("/dev/kvm", open("/dev/kvm", O_RDWR | O_CLOEXEC), -1);
    int types = ioctl(kvm, KVM_CHECK_EXTENSION, VM_TYPES);
    expect(types > 0 && types & 1 << TDX_VM, "KVM_CAP_VM_TYPES: %#x", types);
    int vm = answer("KVM_CREATE_VM of type 5", ioctl(kvm, KVM_CREATE_VM, TDX_VM), -1);
    answer("KVM_CAP_MEMORY_ATTRIBUTES", ioctl(vm, KVM_CHECK_EXTENSION, MEMORY_ATTRIBUTES), 8);
    answer("KVM_CAP_MAX_VCPUS is the number of processors", ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS),
           (int)sysconf(_SC_NPROCESSORS_CONF));

    struct {
        struct tdxd_kvm_tdx_capabilities head;
        struct kvm_cpuid_entry2 entries[256];
    } *capabilities = calloc(1, sizeof *capabilities);
    answer("KVM_TDX_CAPABILITIES without room", tdx(vm, TDXD_KVM_TDX_CAPABILITIES, 0, capabilities), -E2BIG);
    memset(capabilities, 0, sizeof *capabilities);
    capabilities->head.nent = 256;
    answer("KVM_TDX_CAPABILITIES", tdx(vm, TDXD_KVM_TDX_CAPABILITIES, 0, capabilities), 0);
    expect(capabilities->head.nent > 0, "%u leaves of CPUID, attributes %#llx, XFAM %#llx", capabilities->head.nent,
           (unsigned long long)capabilities->head.supported_attrs,
           (unsigned long long)capabilities->head.supported_xfam);

    struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};
    answer("KVM_CAP_SPLIT_IRQCHIP", ioctl(vm, KVM_ENABLE_CAP, &split), 0);
    struct kvm_enable_cap exits = {.cap = KVM_CAP_EXIT_HYPERCALL, .args = {1 << TDXD_KVM_HC_MAP_GPA_RANGE}};
    answer("KVM_CAP_EXIT_HYPERCALL", ioctl(vm, KVM_ENABLE_CAP, &exits), 0);
    answer("KVM_CREATE_VCPU before KVM_TDX_INIT_VM", ioctl(vm, KVM_CREATE_VCPU, 0), -EIO);

    struct {
        struct tdxd_kvm_tdx_init_vm head;
        struct kvm_cpuid_entry2 entries[4];
    } *init = calloc(1, sizeof *init);
    init->head.xfam = 1ull << 63;
    answer("KVM_TDX_INIT_VM with an XFAM of no processor", tdx(vm, TDXD_KVM_TDX_INIT_VM, 0, init), -EINVAL);
    memset(init, 0, sizeof *init);
    init->head.xfam = 3;
    init->head.nent = 1;
    init->entries[0] = (struct kvm_cpuid_entry2){.function = 0x80000008, .eax = 48 << 16};
    answer("KVM_TDX_INIT_VM", tdx(vm, TDXD_KVM_TDX_INIT_VM, 0, init), 0);
    answer("KVM_TDX_INIT_VM again", tdx(vm, TDXD_KVM_TDX_INIT_VM, 0, init), -EINVAL);

    int vcpu = answer("KVM_CREATE_VCPU", ioctl(vm, KVM_CREATE_VCPU, 0), -1);
    cpuid.head.nent = 1;
    cpuid.entries[0] = init->entries[0];
    answer("KVM_SET_CPUID2 without x2APIC", ioctl(vcpu, KVM_SET_CPUID2, &cpuid), 0);
    answer("KVM_TDX_INIT_VCPU without x2APIC", tdx(vcpu, TDXD_KVM_TDX_INIT_VCPU, 0, NULL), -EINVAL);
    memset(&cpuid, 0, sizeof cpuid);
    cpuid.head.nent = 256;
    answer("KVM_TDX_GET_CPUID", tdx(vcpu, TDXD_KVM_TDX_GET_CPUID, 0, &cpuid), 0);
    expect(cpuid.head.nent > 0, "%u leaves of the TD", cpuid.head.nent);
    leaf(1)->ecx |= 1 << 21;
    if (leaf(0x80000000)->eax < 0x80000008) leaf(0x80000000)->eax = 0x80000008;
    leaf(0x80000008)->eax |= 52;
    answer("KVM_SET_CPUID2", ioctl(vcpu, KVM_SET_CPUID2, &cpuid), 0);
    answer("KVM_TDX_INIT_VCPU", tdx(vcpu, TDXD_KVM_TDX_INIT_VCPU, 0, NULL), 0);

    struct tdxd_kvm_create_guest_memfd memfd = {.size = SIZE};
    int private_memory = answer("KVM_CREATE_GUEST_MEMFD", ioctl(vm, CREATE_GUEST_MEMFD, &memfd), -1);
    unsigned char *shared = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(shared, 0x5a, 16 * PAGE);
    struct tdxd_kvm_userspace_memory_region2 slot = {
        .flags = TDXD_KVM_MEM_GUEST_MEMFD, .guest_phys_addr = START, .memory_size = SIZE,
        .userspace_addr = (uint64_t)shared, .guest_memfd = (uint32_t)private_memory};
    answer("KVM_SET_USER_MEMORY_REGION2", ioctl(vm, SET_USER_MEMORY_REGION2, &slot), 0);
    convert(vm, START, SIZE, true);
    struct tdxd_kvm_tdx_init_mem_region region = {.source_addr = (uint64_t)shared, .gpa = LOADED, .nr_pages = 16};
    answer("KVM_TDX_INIT_MEM_REGION of 16 measured pages",
           tdx(vcpu, TDXD_KVM_TDX_INIT_MEM_REGION, TDXD_KVM_TDX_MEASURE_MEMORY_REGION, &region), 0);
    expect(region.nr_pages == 0, "%llu pages are left", (unsigned long long)region.nr_pages);
    answer("KVM_TDX_FINALIZE_VM", tdx(vm, TDXD_KVM_TDX_FINALIZE_VM, 0, NULL), 0);
    answer("KVM_TDX_FINALIZE_VM again", tdx(vm, TDXD_KVM_TDX_FINALIZE_VM, 0, NULL), -EINVAL);

    int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    struct kvm_run *run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    expect(run != MAP_FAILED, "kvm_run of %d bytes", size);
    run->immediate_exit = 1;
    answer("KVM_RUN with immediate_exit", ioctl(vcpu, KVM_RUN, 0), -EINTR);
    run->immediate_exit = 0;

    // The guest writes, accepts, computes; then a byte for the serial line.
    pin(0);
    answer("KVM_RUN", ioctl(vcpu, KVM_RUN, 0), 0);
    expect(run->exit_reason == KVM_EXIT_IO && run->io.port == 0x3f8 && run->io.direction == KVM_EXIT_IO_OUT &&
               *((char *)run + run->io.data_offset) == 'A',
           "exit %u: the guest writes a byte to port %#x", run->exit_reason, run->io.port);
    // On another processor: KVM flushes the vCPU from the old one.
    pin(1);
    answer("KVM_RUN", ioctl(vcpu, KVM_RUN, 0), 0);
    expect(run->exit_reason == TDXD_KVM_EXIT_HYPERCALL && run->hypercall.nr == TDXD_KVM_HC_MAP_GPA_RANGE &&
               run->hypercall.args[0] == START && run->hypercall.args[1] == 2 && run->hypercall.args[2] == 0,
           "exit %u: the guest gives 2 pages back", run->exit_reason);
    convert(vm, START, 2 * PAGE, false);
    run->hypercall.ret = 0;

    // The guest halts, in KVM; a signal takes the thread out.
    struct sigaction action = {.sa_handler = nothing};
    sigaction(SIGUSR1, &action, NULL);
    kicked.thread = pthread_self();
    kicked.run = run;
    pthread_t other;
    pthread_create(&other, NULL, kick, NULL);
    answer("KVM_RUN of a halted guest, kicked", ioctl(vcpu, KVM_RUN, 0), -EINTR);
    pthread_join(other, NULL);
    run->immediate_exit = 0;

    munmap(run, (size_t)size);
    close(vcpu);
    close(private_memory);
    close(vm);
    expect(true, "closed");
    return 0;
}
