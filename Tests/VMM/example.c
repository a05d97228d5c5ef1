// A VMM in one file that is tested with libtdx-vmm: it makes a TD, runs its guest and converts memory as the guest asks.
//
//   cc -o example example.c -ltdx-vmm && ./example
//
// It needs /dev/kvm, and no TDX. The structures are those of <linux/kvm.h> from Linux 6.16 on; they are repeated here so that
// it builds with any.
#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <tdx_vmm.h>

#define CREATE_GUEST_MEMFD 0xC040AED4UL
#define SET_REGION2 0x40A0AE49UL
#define SET_ATTRIBUTES 0x4020AED2UL
#define ENCRYPT_OP 0xC008AEBAUL
#define CAP_SPLIT_IRQCHIP 121
#define CAP_EXIT_HYPERCALL 201
#define MEMORY (16UL << 20)
#define LOADED 0x8000UL

struct command { uint32_t id, flags; uint64_t data, hw_error; };
struct attributes { uint64_t address, size, attributes, flags; };
struct memory { uint64_t size, flags, reserved[6]; };
struct region { uint32_t slot, flags; uint64_t gpa, size, user, offset; uint32_t file, pad1; uint64_t pad2[14]; };
struct load { uint64_t source, gpa, pages; };
struct initialization {
    uint64_t attributes, xfam, identities[18], reserved[12];
    uint32_t count, padding;
    struct kvm_cpuid_entry2 leaves[2];
};
struct leaves { uint32_t count, padding; struct kvm_cpuid_entry2 leaves[3]; };

// What the guest does; the lines that begin with “expect” are the test.
static const char *script =
    "accept 2M 4M\n"
    "write 2M \"private\"\n"
    "convert 2M 2M shared\n"
    "expect 2M 00000000000000      # the private side is gone\n"
    "write 2M \"for the host\"\n"
    "convert 2M 2M private\n"
    "expect 2M 00000000\n"
    "port write 0xf4 1 0          # tells the loop below that this was all\n";

static struct tdx_vmm *vmm;

static int request(const char *name, int descriptor, unsigned long number, void *argument) {
    int result = tdx_vmm_ioctl(vmm, descriptor, number, argument);
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", name, strerror(-result));
        exit(1);
    }
    return result;
}

static void tdx(const char *name, int descriptor, uint32_t id, uint32_t flags, void *data) {
    struct command command = {.id = id, .flags = flags, .data = (uint64_t)data};
    request(name, descriptor, ENCRYPT_OP, &command);
}

static void enable(int vm, uint32_t capability, uint64_t argument) {
    struct kvm_enable_cap block = {.cap = capability, .args = {argument}};
    request("KVM_ENABLE_CAP", vm, KVM_ENABLE_CAP, &block);
}

static uint32_t signature(void) {
    uint32_t eax = 1, ebx, ecx = 0, edx;
    __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    return eax;
}

int main(void) {
    char *error = NULL;
    vmm = tdx_vmm_begin_script(script, &error);
    if (vmm == NULL) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }
    int vm = request("KVM_CREATE_VM", tdx_vmm_device(vmm), KVM_CREATE_VM, (void *)5);
    enable(vm, CAP_SPLIT_IRQCHIP, 24);
    enable(vm, CAP_EXIT_HYPERCALL, 1 << 12);
    struct initialization initialization = {
        .xfam = 3, .count = 2,
        .leaves = {{.function = 1, .eax = signature()}, {.function = 0x80000008, .eax = 48 << 16}}};
    tdx("KVM_TDX_INIT_VM", vm, 1, 0, &initialization);
    int vcpu = request("KVM_CREATE_VCPU", vm, KVM_CREATE_VCPU, NULL);
    struct kvm_run *run = mmap(NULL, 12288, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    struct leaves cpuid = {
        .count = 3,
        .leaves = {
            {.function = 1, .ecx = 1 << 21}, {.function = 0x80000000, .eax = 0x80000008},
            {.function = 0x80000008, .eax = 48 << 16 | 52}}};
    request("KVM_SET_CPUID2", vcpu, KVM_SET_CPUID2, &cpuid);
    tdx("KVM_TDX_INIT_VCPU", vcpu, 2, 0, NULL);

    char *shared = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct memory memory = {.size = MEMORY};
    int file = request("KVM_CREATE_GUEST_MEMFD", vm, CREATE_GUEST_MEMFD, &memory);
    struct region region = {.flags = 4, .size = MEMORY, .user = (uint64_t)shared, .file = (uint32_t)file};
    request("KVM_SET_USER_MEMORY_REGION2", vm, SET_REGION2, &region);
    struct attributes all = {.size = MEMORY, .attributes = 8};
    request("KVM_SET_MEMORY_ATTRIBUTES", vm, SET_ATTRIBUTES, &all);
    // One measured page, where a VMM has its firmware.
    void *firmware = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct load load = {.source = (uint64_t)firmware, .gpa = LOADED, .pages = 1};
    tdx("KVM_TDX_INIT_MEM_REGION", vcpu, 3, 1, &load);
    tdx("KVM_TDX_FINALIZE_VM", vm, 4, 0, NULL);

    int conversions = 0;
    for (;;) {
        request("KVM_RUN", vcpu, KVM_RUN, NULL);
        if (run->exit_reason == KVM_EXIT_IO && run->io.port == 0xF4) break;
        if (run->exit_reason != KVM_EXIT_HYPERCALL || run->hypercall.nr != 12) {
            fprintf(stderr, "exit %u\n", run->exit_reason);
            return 1;
        }
        struct attributes change = {
            .address = run->hypercall.args[0], .size = run->hypercall.args[1] * 4096,
            .attributes = run->hypercall.args[2] & 16 ? 8 : 0};
        if (change.attributes != 0 && strcmp(shared + change.address, "for the host") != 0) return 1;
        request("KVM_SET_MEMORY_ATTRIBUTES", vm, SET_ATTRIBUTES, &change);
        // What was on the other side is given back.
        if (change.attributes == 0)
            tdx_vmm_fallocate(vmm, file, 3, (int64_t)change.address, (int64_t)change.size);
        else
            madvise(shared + change.address, change.size, MADV_DONTNEED);
        run->hypercall.ret = 0;
        conversions++;
    }
    char *report = tdx_vmm_report(vmm);
    printf("%s\n", report);
    free(report);
    munmap(run, 12288);
    int status = tdx_vmm_end(vmm);
    printf("%d conversions; status %d\n", conversions, status);
    return status;
}
