import CKVM
import Glibc
import KVM
import Testing
import VMMEngine
import VMMTerms

@Suite(.enabled(if: hasKVM, "there is no /dev/kvm")) struct VMMEngineTests {
    private func script(_ text: String) throws -> EngineConfiguration.Guest {
        .script(try GuestScript(parsing: text), name: "test")
    }

    @Test(arguments: [EngineConfiguration.Backing.automatic, .memfd])
    func `a VMM's requests make a TD whose guest accepts, converts and talks`(
        backing: EngineConfiguration.Backing
    ) throws {
        let vmm = try SmallVMM(
            script(
                """
                accept all
                write 4M "secret"
                expect 4M "secret"
                convert 4M 3M shared
                write 4M "public"
                expect 4M "public"
                convert 4M 3M private
                expect 4M 000000000000
                port write 0x80 1 7
                port read 0x60 4 expect 0x12345678
                mmio read 0xfec00000 8 expect 0x1122334455667788
                mmio write 0xfec00000 4 1
                vmcall 0x10000 r12=1 expect r10=0 r11=2
                vmcall 0x99999 expect r10=0x8000000000000003
                wait 2
                print "done"
                """), backing: backing)
        try vmm.build()
        #expect(vmm.serve() == -EINTR)
        let report = vmm.engine.report(program: "test")
        #expect(report.guest.failures == [], "\(report)")
        #expect(report.guest.state == "finished" && report.guest.steps == 16)
        #expect(vmm.serial == "done")
        // 3 MiB are two pieces each way.
        #expect(vmm.exits.count { $0 == 3 } == 4)
        let domain = try #require(report.trustDomains.first)
        #expect(domain.mrtd?.utf8.count == 96 && domain.measuredPages == 1 && domain.keyId == 33)
        #expect(domain.exits["HYPERCALL MAP_GPA_RANGE"] == 4 && domain.toShared == 2 && domain.toPrivate == 3)
        #expect(domain.toSharedBytes == 3 << 20 && domain.punchedBytes == 3 << 20)
        #expect(report.requests["KVM_TDX_INIT_VM"] == 1 && report.requests["KVM_CREATE_VM"] == 1)
        #expect(vmm.engine.closingReport(program: "test").leaks?.isEmpty == true)
    }

    @Test func `what fails in a script is in the report, by its line`() throws {
        let vmm = try SmallVMM(
            script("accept 4M 2M\nwrite 4M aa\nexpect 4M bb\nport read 1 1 expect 1\nconvert 4M 4K shared refused\n"))
        try vmm.build()
        #expect(vmm.serve() == -EINTR)
        let failures = vmm.engine.report(program: "test").guest.failures
        #expect(failures.count == 3, "\(failures)")
        #expect(failures.first == "line 3: 0x400000 has aa, expected bb")
        #expect(failures.dropFirst().first == "line 4: port 0x1 reads 0x78, expected 0x1")
        #expect(failures.last?.contains("line 5") == true)
    }

    @Test func `a VMM is told the host's types, and a TD's capabilities`() throws {
        let vmm = try SmallVMM(.behaviour(.idle))
        #expect(vmm.check(vmm.device, 235) & 1 << 5 != 0)
        #expect(vmm.check(vmm.device, 233) == 8)
        try #require(vmm.createVM() >= 0)
        #expect(vmm.check(vmm.vm, 81) == 0, "READONLY_MEM")
        // Room for too few leaves is refused without a word, as the kernel does.
        var words = [UInt64](repeating: 0, count: 257 + 5 * 64)
        words[256] = 6
        let few = words.withUnsafeMutableBytes { vmm.command(vmm.vm, 0, data: UInt(bitPattern: $0.baseAddress)) }
        #expect(few == -E2BIG && words[256] == 6)
        words[256] = 64
        let enough = words.withUnsafeMutableBytes { vmm.command(vmm.vm, 0, data: UInt(bitPattern: $0.baseAddress)) }
        #expect(enough == 0 && words[0] & 1 << 28 != 0 && words[1] & 3 == 3 && words[256] & 0xFFFF_FFFF == 12)
        #expect(words[3] == 2, "user space answers SetupEventNotifyInterrupt")
    }

    @Test func `another type of VM is the kernel's alone`() throws {
        let vmm = try SmallVMM(.behaviour(.idle))
        #expect(vmm.engine.ioctl(vmm.device, Ioctls.createVM.number, 0) == nil)
        #expect(vmm.engine.ioctl(1000, Ioctls.createVM.number, 5) == nil)
    }

    @Test func `bad addresses and values are refused with the kernel's errors, and nothing traps`() throws {
        let vmm = try SmallVMM(.behaviour(.idle))
        try #require(vmm.createVM() >= 0)
        let vm = vmm.vm
        let requests = [
            Ioctls.enableCapability.request, Ioctls.setUserMemoryRegion.request, Ioctls.setUserMemoryRegion2.request,
            Ioctls.setMemoryAttributes.request, Ioctls.createGuestMemfd.request, Ioctls.memoryEncryptOperation.request,
        ]
        for request in requests {
            for address in [0, 8, UInt.max, UInt.max - 7, 0x7FFF_FFFF_F000] {
                #expect(vmm.ioctl(vm, request.number, address) == -EFAULT, "\(request.name) at \(address)")
            }
        }
        for id: UInt32 in [0, 1] { #expect(vmm.command(vm, id, data: 8) == -EFAULT) }
        #expect(vmm.command(vm, 4) == -EINVAL)
        #expect(vmm.command(vm, 6) == -EINVAL)
        #expect(vmm.command(vm, UInt32.max) == -EINVAL)
        #expect(vmm.command(vm, 0, flags: 1) == -EINVAL)
        #expect(vmm.ioctl(vm, Ioctls.createVCPU.number, 0) == -EIO)
        for (address, size, attributes): (UInt64, UInt64, UInt64) in [
            (1, 4096, 8), (0, 0, 8), (0, 4096, 4), (UInt64.max - 4095, 8192, 8), (0, 4095, 0),
        ] { #expect(vmm.setAttributes(address, size, attributes) == -EINVAL) }
        var file = tdxd_kvm_create_guest_memfd()
        for size: UInt64 in [0, 1, UInt64.max, 1 << 63] {
            file.size = size
            #expect(vmm.ioctl(vm, Ioctls.createGuestMemfd.request.number, &file) == -EINVAL)
        }
        file.size = 4096
        file.flags = 2
        #expect(vmm.ioctl(vm, Ioctls.createGuestMemfd.request.number, &file) == -EINVAL)
        var region = tdxd_kvm_userspace_memory_region2()
        region.memory_size = UInt64.max - 4095
        region.guest_phys_addr = 1 << 63
        #expect(vmm.ioctl(vm, Ioctls.setUserMemoryRegion2.request.number, &region) == -EINVAL)
        region.memory_size = 4096
        region.guest_phys_addr = 0
        region.flags = 4
        region.guest_memfd = UInt32(bitPattern: -1)
        #expect(vmm.ioctl(vm, Ioctls.setUserMemoryRegion2.request.number, &region) == -EBADF)
        region.guest_memfd = UInt32(vmm.device)
        #expect(vmm.ioctl(vm, Ioctls.setUserMemoryRegion2.request.number, &region) == -EINVAL)
        region.flags = 8
        #expect(vmm.ioctl(vm, Ioctls.setUserMemoryRegion2.request.number, &region) == -EINVAL)
        // KVM_CREATE_IRQCHIP: a TD's is split.
        #expect(vmm.ioctl(vm, 0xAE60, 0) == -EINVAL)
    }

    @Test func `a source that cannot be read is an answer, and what was added is told`() throws {
        let vmm = try SmallVMM(.behaviour(.idle))
        try vmm.build()
        // After the end of loading.
        var region = tdxd_kvm_tdx_init_mem_region(source_addr: 0x10000, gpa: 0, nr_pages: 1)
        let late = withUnsafeMutableBytes(of: &region) {
            vmm.command(vmm.vcpu, 3, data: UInt(bitPattern: $0.baseAddress))
        }
        #expect(late == -EFAULT || late == -EINVAL)
        for (source, address, pages): (UInt64, UInt64, UInt64) in [
            (1, 0, 1), (4096, 1, 1), (4096, 0, 0), (4096, UInt64.max - 4095, 2), (4096, 0, UInt64.max),
        ] {
            region = tdxd_kvm_tdx_init_mem_region(source_addr: source, gpa: address, nr_pages: pages)
            let result = withUnsafeMutableBytes(of: &region) {
                vmm.command(vmm.vcpu, 3, data: UInt(bitPattern: $0.baseAddress))
            }
            #expect(result == -EINVAL)
        }
        // A TD's registers are its own.
        #expect(vmm.ioctl(vmm.vcpu, 0x8090_AE81, 0) == -EINVAL)
        #expect(vmm.ioctl(vmm.vcpu, Ioctls.run.number, 1) == -EINVAL)
        #expect(vmm.ioctl(vmm.vcpu, 0xAEA3, 0) == 2_000_000)
    }

    @Test func `immediate_exit in kvm_run brings a resting vCPU out`() throws {
        let vmm = try SmallVMM(.behaviour(.idle))
        try vmm.build()
        #expect(vmm.serve() == -EINTR)
        #expect(vmm.engine.report(program: "test").guest.state == "finished")
    }

    @Test func `a width that no TD has is taken for 48, and the report says so`() throws {
        let vmm = try SmallVMM(.behaviour(.idle))
        try #require(vmm.createVM() >= 0)
        try #require(vmm.enable(121, 24) == 0)
        #expect(vmm.initialize(width: 0) == 0)
        #expect(
            vmm.engine.report(program: "test").trustDomains[0].notes
                == ["KVM_TDX_INIT_VM: guest-physical width 0 was taken for 48"])
    }

    @Test func `a duplicate keeps what it is of, and the last number ends the TD`() throws {
        let vmm = try SmallVMM(.behaviour(.idle))
        try vmm.build()
        let engine = vmm.engine
        func close(_ number: Int32) {
            let closing = engine.closing(number)
            Glibc.close(number)
            closing?.finish()
        }
        let copy = dup(vmm.vm)
        engine.duplicated(vmm.vm, as: copy)
        #expect(engine.knows(copy))
        let statistics = vmm.ioctl(vmm.vcpu, Ioctls.getStatsFD.number, 0)
        #expect(statistics >= 0 && engine.knows(statistics))
        for number in [vmm.vm, vmm.vcpu, vmm.file] { close(number) }
        func isDestroyed() -> Bool { engine.report(program: "test").trustDomains[0].destroyed }
        #expect(!isDestroyed())
        close(copy)
        #expect(!isDestroyed(), "KVM's statistics keep the VM")
        close(statistics)
        #expect(isDestroyed())
        #expect(!engine.knows(copy))
        #expect(engine.ioctl(copy, Ioctls.checkExtension.number, 1) == nil)
    }

    @Test func `a reset finds a second key id while the first TD still has its own`() throws {
        let vmm = try SmallVMM(.behaviour(.idle))
        for expected in [0, 0, -ENOSPC] {
            try #require(vmm.createVM() >= 0)
            try #require(vmm.enable(121, 24) == 0)
            #expect(vmm.initialize() == expected)
        }
    }

    @Test func `private memory cannot be mapped`() throws {
        let vmm = try SmallVMM(.behaviour(.idle))
        try vmm.build()
        #expect(vmm.engine.mapping(vmm.file) == .refused(-ENODEV))
        #expect(vmm.engine.mapping(vmm.vcpu) == .plain)
        #expect(vmm.engine.fallocate(vmm.file, mode: 0, offset: 0, length: 4096) == -EOPNOTSUPP)
        #expect(vmm.engine.fallocate(vmm.file, mode: 3, offset: 1, length: 4096) == -EINVAL)
        #expect(vmm.engine.fallocate(vmm.file, mode: 3, offset: -4096, length: 4096) == -EINVAL)
        #expect(vmm.engine.fallocate(vmm.file, mode: 3, offset: 0, length: 0) == -EINVAL)
        #expect(vmm.engine.fallocate(vmm.device, mode: 3, offset: 0, length: 4096) == nil)
    }

    @Test(arguments: [GuestBehaviour.boot, .bootLazily])
    func `a guest that boots converts 5,000 times`(behaviour: GuestBehaviour) throws {
        let vmm = try SmallVMM(.behaviour(behaviour))
        try vmm.build()
        #expect(vmm.serve() == -EINTR)
        let report = vmm.engine.report(program: "test")
        #expect(report.guest.failures == [] && report.guest.steps == 5000, "\(report.guest)")
        #expect(report.trustDomains[0].exits["HYPERCALL MAP_GPA_RANGE"] == 5000)
        #expect(vmm.serial.contains("made 5000 small conversions, and rests"))
    }

    @Test func `a report survives its encoding`() throws {
        let vmm = try SmallVMM(.behaviour(.idle))
        try vmm.build()
        let report = vmm.engine.closingReport(program: "test")
        #expect(try EngineReport.decode(report.encoded()) == report)
        let text = String(decoding: report.encoded(), as: UTF8.self)
        #expect(text.contains("\"key_id\":33") && text.contains("\"KVM_CREATE_VM\":1"))
    }
}
