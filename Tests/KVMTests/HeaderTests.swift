import LinuxSystem
import MemoryUnits
import Testing

/// The door to KVM compiles with headers that know more than the installed one. Newer headers define the very names
/// that it declares under its own; a header made up here has them all, as enumerators, macros and structures.
struct HeaderTests {
    /// What Linux 7.x's header adds to 6.1's, where 6.1's lacks it.
    private static let newerNames = """
        #include_next <linux/kvm.h>
        #undef KVM_CREATE_GUEST_MEMFD
        #define KVM_CREATE_GUEST_MEMFD _IOWR(KVMIO, 0xd4, struct kvm_create_guest_memfd)
        #define KVM_SET_USER_MEMORY_REGION2 _IOW(KVMIO, 0x49, struct kvm_userspace_memory_region2)
        #define KVM_SET_MEMORY_ATTRIBUTES _IOW(KVMIO, 0xd2, struct kvm_memory_attributes)
        #define KVM_PRE_FAULT_MEMORY _IOWR(KVMIO, 0xd5, struct kvm_pre_fault_memory)
        #define KVM_MEM_GUEST_MEMFD (1UL << 2)
        #define GUEST_MEMFD_FLAG_MMAP (1ULL << 0)
        #define GUEST_MEMFD_FLAG_INIT_SHARED (1ULL << 1)
        #define KVM_MEMORY_ATTRIBUTE_PRIVATE (1ULL << 3)
        #define KVM_MEMORY_EXIT_FLAG_PRIVATE (1ULL << 3)
        #define KVM_EXIT_MEMORY_FAULT 39
        #define KVM_EXIT_TDX 40
        #define KVM_X86_TDX_VM 5
        #define KVM_TDX_MEASURE_MEMORY_REGION (1UL << 0)
        struct kvm_userspace_memory_region2 {
          __u32 slot; __u32 flags; __u64 guest_phys_addr; __u64 memory_size; __u64 userspace_addr;
          __u64 guest_memfd_offset; __u32 guest_memfd; __u32 pad1; __u64 pad2[14]; };
        struct kvm_create_guest_memfd { __u64 size; __u64 flags; __u64 reserved[6]; };
        struct kvm_memory_attributes { __u64 address; __u64 size; __u64 attributes; __u64 flags; };
        struct kvm_pre_fault_memory { __u64 gpa; __u64 size; __u64 flags; __u64 padding[5]; };
        enum kvm_tdx_cmd_id {
          KVM_TDX_CAPABILITIES = 0, KVM_TDX_INIT_VM, KVM_TDX_INIT_VCPU, KVM_TDX_INIT_MEM_REGION, KVM_TDX_FINALIZE_VM,
          KVM_TDX_GET_CPUID, KVM_TDX_TERMINATE_VM, KVM_TDX_CMD_NR_MAX };
        struct kvm_tdx_cmd { __u32 id; __u32 flags; __u64 data; __u64 hw_error; };
        struct kvm_tdx_init_mem_region { __u64 source_addr; __u64 gpa; __u64 nr_pages; };
        """

    /// Both headers together: the numbers and sizes of the newer must be those of the door.
    private static let program = """
        #include <ckvm.h>
        #ifdef TEST_NEWER
        _Static_assert(sizeof(struct tdxd_kvm_userspace_memory_region2) == sizeof(struct kvm_userspace_memory_region2), "");
        _Static_assert(sizeof(struct tdxd_kvm_create_guest_memfd) == sizeof(struct kvm_create_guest_memfd), "");
        _Static_assert(sizeof(struct tdxd_kvm_memory_attributes) == sizeof(struct kvm_memory_attributes), "");
        _Static_assert(sizeof(struct tdxd_kvm_pre_fault_memory) == sizeof(struct kvm_pre_fault_memory), "");
        _Static_assert(sizeof(struct tdxd_kvm_tdx_cmd) == sizeof(struct kvm_tdx_cmd), "");
        _Static_assert(TDXD_KVM_TDX_TERMINATE_VM == KVM_TDX_TERMINATE_VM, "");
        _Static_assert(TDXD_KVM_TDX_FINALIZE_VM == KVM_TDX_FINALIZE_VM, "");
        _Static_assert(TDXD_KVM_MEMORY_ATTRIBUTE_PRIVATE == KVM_MEMORY_ATTRIBUTE_PRIVATE, "");
        _Static_assert(TDXD_KVM_EXIT_TDX == KVM_EXIT_TDX, "");
        #endif
        int main(void) { return tdxd_ioctl_value(0, 0, 0) == 0; }
        """

    @Test(
        .enabled(if: Machine.compiler != nil, "there is no C compiler"), arguments: [false, true], ["gnu11", "gnu17"])
    func `the door compiles without warnings with the installed header and with a newer one`(
        newer: Bool, standard: String
    ) throws {
        let header = try text(Self.newerNames)
        let program = try text(Self.program)
        let door = #filePath.split(separator: "/").dropLast(3).reduce("") { $0 + "/" + $1 } + "/Sources/CKVM"
        let script = """
            set -e
            directory=$(mktemp -d); trap 'rm -rf "$directory"' EXIT
            mkdir "$directory/linux"; cat <&4 >"$directory/linux/kvm.h"; cat <&5 >"$directory/program.c"
            "$0" -std=\(standard) -Wall -Wextra -Werror -fsyntax-only \
              \(newer ? "-DTEST_NEWER -I \"$directory\"" : "") -I "$1" "$directory/program.c" >&2
            """
        let messages = try MemoryFile(name: "messages", size: .mebibytes(1)).duplicateDescriptor()
        let child = try ProgramStart(
            path: "/bin/sh", arguments: ["-c", script, try #require(Machine.compiler), door],
            environment: ["PATH=/usr/bin:/bin", "TMPDIR=/tmp", "LANG=C"],
            descriptors: [(header.rawValue, 4), (program.rawValue, 5), (messages.rawValue, 2)]
        ).start()
        let exit = try child.wait()
        let said = String(decoding: try messages.read(count: 1 << 20, at: .zero).prefix { $0 != 0 }, as: UTF8.self)
        #expect(exit == .exited(status: 0), "\(said)")
    }

    /// A file with the text, to be read from its beginning.
    private func text(_ content: String) throws -> OwnedDescriptor {
        let bytes = Array(content.utf8) + [UInt8(ascii: "\n")]
        let file = try MemoryFile(name: "text", size: ByteCount(UInt64(bytes.count))).duplicateDescriptor()
        try bytes.withUnsafeBytes { try file.write($0, at: .zero) }
        return file
    }
}
