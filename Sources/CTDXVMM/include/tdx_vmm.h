// libtdx-vmm: a host with TDX in a library, for the tests of a VMM. The requests are those of /dev/kvm and are made
// with the same numbers and structures; the TDX module behind them is software, guests are scripts, and nothing is
// encrypted.
//
// All calls may be made from any thread. Descriptors are real ones of this process; what is not about TDX is answered
// by the real /dev/kvm, which must be there. See docs/vmm.md.
#ifndef TDX_VMM_H
#define TDX_VMM_H
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

// A host. It lives until tdx_vmm_end.
struct tdx_vmm;

// Makes a host whose guests do what `guest` says: the name of a behaviour ("idle", "boot", "boot-lazy", "storm",
// "quote", "fatal", "reset"), or the path of a script with a "/" in it. Returns NULL and, where `error` is not NULL,
// a text that the caller frees with free(3): no /dev/kvm, or a script that is not understood.
struct tdx_vmm *tdx_vmm_begin(const char *guest, char **error);

// As tdx_vmm_begin, with a script's text.
struct tdx_vmm *tdx_vmm_begin_script(const char *text, char **error);

// The descriptor of /dev/kvm. The host closes it.
int tdx_vmm_device(struct tdx_vmm *vmm);

// ioctl(2) on the device, or on what came of it: VMs of type 5 (KVM_CREATE_VM), vCPUs, guest_memfds. Returns the
// kernel's result, −errno for a failure; errno itself is not touched. kvm_run is mapped with mmap(2) as ever.
int tdx_vmm_ioctl(struct tdx_vmm *vmm, int descriptor, unsigned long request, void *argument);

// fallocate(2) on a guest_memfd, and close(2) of any descriptor of the host's; in place of the C library's. 0 or
// −errno.
int tdx_vmm_fallocate(struct tdx_vmm *vmm, int descriptor, int mode, int64_t offset, int64_t length);
int tdx_vmm_close(struct tdx_vmm *vmm, int descriptor);

// What happened so far, as a line of JSON that the caller frees with free(3).
char *tdx_vmm_report(struct tdx_vmm *vmm);

// Whether the guest's program has ended on every vCPU that has one; and how many of its expectations were not met.
int tdx_vmm_guest_has_ended(struct tdx_vmm *vmm);
int tdx_vmm_guest_failures(struct tdx_vmm *vmm);

// Takes everything away and frees the host: 0 where nothing leaked and no expectation failed, otherwise 1. No call
// may be under way, and none may be made on it afterwards.
int tdx_vmm_end(struct tdx_vmm *vmm);

#ifdef __cplusplus
}
#endif
#endif
