import CKVM
import Glibc
import KVM
import LinuxSystem
import MemoryUnits
import Synchronization
import SystemPackage
import TDXStatusCodes
import Testing

/// The library against a kernel that the test plays: answers that no machine at hand gives, TDX's above all.
struct ScriptedKernelTests {
    /// What one request was and what it said.
    typealias Answer = @Sendable (UInt32, UnsafeMutableRawPointer?) -> Int32

    private func machine(_ answer: @escaping Answer) throws -> KernelVirtualMachine {
        let file = try MemoryFile(name: "vm", size: .kibibytes(4)).duplicateDescriptor()
        return KernelVirtualMachine(file, type: .tdx, runSize: 12288) { _, request, argument in
            answer(request, argument)
        }
    }

    /// A vCPU and its run area, as the kernel sees it.
    private func vcpu(_ answer: @escaping Answer) throws -> (vcpu: KernelVirtualCPU, run: FileMapping) {
        let memory = try MemoryFile(name: "vcpu", size: .kibibytes(12))
        let vcpu = try KernelVirtualCPU(try memory.duplicateDescriptor(), id: 3, runSize: 12288) {
            _, request, argument in
            answer(request, argument)
        }
        return (vcpu, try memory.map(length: .kibibytes(12)))
    }

    private static func command(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutablePointer<tdxd_kvm_tdx_cmd> {
        argument!.assumingMemoryBound(to: tdxd_kvm_tdx_cmd.self)
    }

    private static func data(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer {
        UnsafeMutableRawPointer(bitPattern: UInt(command(argument).pointee.data))!
    }

    // MARK: - Adding memory

    @Test func `adding memory goes on where the kernel stopped, after signals and want of entropy`() throws {
        // What each call does: how many pages, then which result.
        let steps: [(pages: UInt64, result: Int32)] = [
            (100, -EINTR), (0, -EAGAIN), (0, -EINTR), (412, 0), (512, 0), (1, -EAGAIN), (75, 0),
        ]
        let total: UInt64 = 1100
        let log = Mutex<[(source: UInt64, gpa: UInt64, pages: UInt64, flags: UInt32)]>([])
        let (vcpu, _) = try vcpu { request, argument in
            #expect(request == 0xC008_AEBA)
            #expect(Self.command(argument).pointee.id == 3)
            #expect(Self.command(argument).pointee.hw_error == 0)
            let region = Self.data(argument).assumingMemoryBound(to: tdxd_kvm_tdx_init_mem_region.self)
            let index = log.withLock { log in
                log.append(
                    (
                        region.pointee.source_addr, region.pointee.gpa, region.pointee.nr_pages,
                        Self.command(argument).pointee.flags
                    ))
                return log.count - 1
            }
            guard index < steps.count else { return -EIO }
            region.pointee.source_addr += steps[index].pages * 4096
            region.pointee.gpa += steps[index].pages * 4096
            region.pointee.nr_pages -= steps[index].pages
            return steps[index].result
        }
        let source = try MemoryFile(name: "source", size: PageCount(total).bytes).map(length: PageCount(total).bytes)
        defer { withExtendedLifetime(source) {} }
        var heard: [UInt64] = []
        try vcpu.tdxInitializeMemory(
            from: UnsafeRawBufferPointer(start: source.baseAddress, count: Int(total) * 4096), at: .init(0x10_0000),
            measured: true
        ) { heard.append($0.rawValue) }
        #expect(heard == [100, 512, 1024, 1025, 1100])
        let calls = log.withLock { $0 }
        #expect(calls.map(\.pages) == [512, 512, 512, 512, 512, 76, 75])
        let begin = UInt64(UInt(bitPattern: source.baseAddress))
        #expect(calls.map { ($0.source - begin) / 4096 } == [0, 100, 100, 100, 512, 1024, 1025])
        #expect(calls.map { ($0.gpa - 0x10_0000) / 4096 } == [0, 100, 100, 100, 512, 1024, 1025])
        #expect(calls.allSatisfy { $0.flags == 1 })
    }

    @Test func `a failure while adding memory tells the page, and what was added before was heard of`() throws {
        let (vcpu, _) = try vcpu { _, argument in
            let region = Self.data(argument).assumingMemoryBound(to: tdxd_kvm_tdx_init_mem_region.self)
            region.pointee.nr_pages -= 5
            return -EIO
        }
        let source = try MemoryFile(name: "source", size: .kibibytes(64)).map(length: .kibibytes(64))
        defer { withExtendedLifetime(source) {} }
        var heard: [UInt64] = []
        do throws(KVMError) {
            try vcpu.tdxInitializeMemory(
                from: UnsafeRawBufferPointer(start: source.baseAddress, count: 65536), at: .init(0x4000),
                measured: false
            ) { heard.append($0.rawValue) }
            Issue.record("EIO was swallowed")
        } catch {
            #expect(error.operation == "KVM_TDX_INIT_MEM_REGION")
            #expect(error.errno == .ioError)
            #expect(error.detail == "page 5 of 16 at 0x9000")
        }
        #expect(heard == [5])
    }

    @Test(arguments: [0, 1, 4095, 4097])
    func `memory that is no whole pages is refused before the kernel is asked`(bytes: Int) throws {
        let (vcpu, _) = try vcpu { _, _ in
            Issue.record("the kernel was asked")
            return 0
        }
        let source = try MemoryFile(name: "source", size: .kibibytes(8)).map(length: .kibibytes(8))
        defer { withExtendedLifetime(source) {} }
        expectRefusal(.invalidArgument) {
            try vcpu.tdxInitializeMemory(
                from: UnsafeRawBufferPointer(start: source.baseAddress, count: bytes), at: .init(0), measured: false
            ) { _ in }
        }
    }

    // MARK: - The TD

    @Test func `capabilities are asked for with more room until they fit`() throws {
        let rooms = Mutex<[UInt32]>([])
        let vm = try machine { request, argument in
            #expect(request == 0xC008_AEBA)
            #expect(Self.command(argument).pointee.id == 0)
            let data = Self.data(argument)
            let room = data.load(fromByteOffset: 2048, as: UInt32.self)
            rooms.withLock { $0.append(room) }
            if room < 130 { return -E2BIG }
            data.storeBytes(of: 0x11, toByteOffset: 0, as: UInt64.self)
            data.storeBytes(of: 0xE7, toByteOffset: 8, as: UInt64.self)
            data.storeBytes(of: 0x3, toByteOffset: 48, as: UInt64.self)
            data.storeBytes(of: 130, toByteOffset: 2048, as: UInt32.self)
            for leaf in 0..<130 {
                data.storeBytes(of: UInt32(leaf), toByteOffset: 2056 + leaf * 40, as: UInt32.self)
                data.storeBytes(of: UInt32(leaf + 7), toByteOffset: 2056 + leaf * 40 + 24, as: UInt32.self)
            }
            return 0
        }
        let capabilities = try vm.tdxCapabilities()
        #expect(rooms.withLock { $0 } == [64, 128, 256])
        #expect(capabilities.supportedAttributes == 0x11)
        #expect(capabilities.supportedXFAM == 0xE7)
        #expect(capabilities.supportedCommands == 3)
        #expect(capabilities.configurableCPUID.count == 130)
        #expect(capabilities.configurableCPUID[129] == CPUIDEntry(function: 129, edx: 136))
    }

    @Test func `a TD's CPUID is asked for again with the room that the kernel names`() throws {
        let rooms = Mutex<[UInt32]>([])
        let (vcpu, _) = try vcpu { request, argument in
            guard request == 0xC008_AEBA else { return 0 }
            #expect(Self.command(argument).pointee.id == 5)
            let data = Self.data(argument)
            let room = data.load(as: UInt32.self)
            rooms.withLock { $0.append(room) }
            data.storeBytes(of: 70, as: UInt32.self)
            if room < 70 { return -E2BIG }
            data.storeBytes(of: 0x8000_0008, toByteOffset: 8 + 69 * 40, as: UInt32.self)
            data.storeBytes(of: 52 << 16, toByteOffset: 8 + 69 * 40 + 12, as: UInt32.self)
            return 0
        }
        let entries = try vcpu.tdxCPUID()
        #expect(rooms.withLock { $0 } == [64, 70])
        #expect(entries.count == 70)
        #expect(entries[69] == CPUIDEntry(function: 0x8000_0008, eax: 52 << 16))
    }

    @Test(arguments: [UInt32(0), 64, 1 << 20])
    func `a kernel that says “too small” and names nonsense is not asked again`(named: UInt32) throws {
        let calls = Atomic(0)
        let (vcpu, _) = try vcpu { request, argument in
            guard request == 0xC008_AEBA else { return 0 }
            calls.add(1, ordering: .relaxed)
            Self.data(argument).storeBytes(of: named, as: UInt32.self)
            return -E2BIG
        }
        expectRefusal(.argListTooLong) { _ = try vcpu.tdxCPUID() }
        #expect(calls.load(ordering: .relaxed) == 1)
    }

    @Test func `a kernel that never has room enough is given up`() throws {
        let calls = Atomic(0)
        let vm = try machine { _, _ in
            calls.add(1, ordering: .relaxed)
            return -E2BIG
        }
        expectRefusal(.argListTooLong) { _ = try vm.tdxCapabilities() }
        #expect(calls.load(ordering: .relaxed) == 7)
    }

    @Test func `a TD's parameters lie where the kernel reads them`() throws {
        let vm = try machine { _, argument in
            #expect(Self.command(argument).pointee.id == 1)
            #expect(Self.command(argument).pointee.flags == 0)
            let data = UnsafeRawPointer(Self.data(argument))
            #expect(data.load(as: UInt64.self) == 0x1000_0000)
            #expect(data.load(fromByteOffset: 8, as: UInt64.self) == 0xE7)
            for (offset, value) in [(16, UInt8(1)), (64, 2), (112, 3), (160, 0), (208, 0)] {
                #expect((0..<48).allSatisfy { data.load(fromByteOffset: offset + $0, as: UInt8.self) == value })
            }
            #expect(data.load(fromByteOffset: 256, as: UInt32.self) == 2)
            #expect(data.load(fromByteOffset: 260, as: UInt32.self) == 0)
            #expect(data.load(fromByteOffset: 264, as: UInt32.self) == 0x8000_0008)
            #expect(data.load(fromByteOffset: 264 + 12, as: UInt32.self) == 48 << 16)
            #expect(data.load(fromByteOffset: 304 + 4, as: UInt32.self) == 9)
            return 0
        }
        try vm.tdxInitialize(
            TDXInitialization(
                attributes: 0x1000_0000, xfam: 0xE7, mrConfigID: .init(repeating: 1, count: 48),
                mrOwner: .init(repeating: 2, count: 48), mrOwnerConfig: .init(repeating: 3, count: 48),
                cpuid: [CPUIDEntry(function: 0x8000_0008, eax: 48 << 16), CPUIDEntry(function: 7, index: 9)]))
    }

    @Test func `the module's status comes with the refusal`() throws {
        let vm = try machine { _, argument in
            Self.command(argument).pointee.hw_error = 0xC000_0100_0000_0008
            return -EINVAL
        }
        do throws(KVMError) {
            try vm.tdxFinalize()
            Issue.record("EINVAL was swallowed")
        } catch {
            #expect(error.operation == "KVM_TDX_FINALIZE_VM")
            #expect(error.errno == .invalidArgument)
            #expect(error.status == TDXStatus(0xC000_0100_0000_0008))
        }
    }

    @Test(arguments: [-EINTR, -EAGAIN])
    func `commands are made again after a signal and while entropy is short`(refusal: Int32) throws {
        let calls = Atomic(0)
        let vm = try machine { _, _ in
            calls.add(1, ordering: .relaxed).newValue < 4 ? refusal : 0
        }
        try vm.tdxFinalize()
        #expect(calls.load(ordering: .relaxed) == 4)
    }

    @Test(arguments: [("EBUSY", 1), ("EINVAL", 1), ("EIO", 1)])
    func `terminating is tried once, and its refusal is the caller's to judge`(name: String, calls: Int) throws {
        let errno = try #require(Errno(named: name))
        let count = Atomic(0)
        let vm = try machine { _, argument in
            #expect(Self.command(argument).pointee.id == 6)
            count.add(1, ordering: .relaxed)
            return -errno.rawValue
        }
        do throws(KVMError) {
            try vm.tdxTerminate()
            Issue.record("\(name) was swallowed")
        } catch {
            #expect(error.errno == errno)
            #expect(error.operation == "KVM_TDX_TERMINATE_VM")
        }
        #expect(count.load(ordering: .relaxed) == calls)
    }

    @Test func `a vCPU is initialized with what its guest finds in RCX`() throws {
        let (vcpu, _) = try vcpu { _, argument in
            #expect(Self.command(argument).pointee.id == 2)
            #expect(Self.command(argument).pointee.data == 0x1234_5678_9ABC_DEF0)
            return 0
        }
        try vcpu.tdxInitialize(initialRCX: 0x1234_5678_9ABC_DEF0)
    }

    // MARK: - Pre-faulting and other requests

    @Test func `pre-faulting goes on with what is left, after signals too`() throws {
        let asked = Mutex<[(UInt64, UInt64)]>([])
        let (vcpu, _) = try vcpu { request, argument in
            #expect(request == 0xC040_AED5)
            let range = argument!.assumingMemoryBound(to: tdxd_kvm_pre_fault_memory.self)
            asked.withLock { $0.append((range.pointee.gpa, range.pointee.size)) }
            switch asked.withLock({ $0.count }) {
            case 1: return -EINTR
            case 2:
                range.pointee.gpa += 0x2000
                range.pointee.size -= 0x2000
                return 0
            case 3: return -EAGAIN
            default:
                range.pointee.gpa += range.pointee.size
                range.pointee.size = 0
                return 0
            }
        }
        try vcpu.preFault(GuestPhysicalRange(0x10_0000, 0x5000))
        #expect(asked.withLock { $0.map(\.0) } == [0x10_0000, 0x10_0000, 0x10_2000, 0x10_2000])
        #expect(asked.withLock { $0.map(\.1) } == [0x5000, 0x5000, 0x3000, 0x3000])
    }

    @Test func `an ordinary request that a signal interrupted is made again`() throws {
        let calls = Atomic(0)
        let vm = try machine { request, _ in
            #expect(request == 0x4020_AED2)
            return calls.add(1, ordering: .relaxed).newValue < 3 ? -EINTR : 0
        }
        try vm.setMemoryAttributes(GuestPhysicalRange(0, 4096), isPrivate: true)
        #expect(calls.load(ordering: .relaxed) == 3)
    }

    // MARK: - Exits

    /// What the kernel writes into the run area, and what the library makes of it.
    private func exit(
        reason: UInt32, result: Int32 = 0, _ write: @escaping @Sendable (UnsafeMutableRawPointer) -> Void = { _ in }
    ) throws -> VCPUExit {
        let area = Mutex<UInt>(0)
        let (vcpu, run) = try vcpu { request, _ in
            #expect(request == 0xAE80)
            let base = UnsafeMutableRawPointer(bitPattern: area.withLock { $0 })!
            base.storeBytes(of: reason, toByteOffset: 8, as: UInt32.self)
            write(base)
            return result
        }
        area.withLock { $0 = UInt(bitPattern: run.baseAddress) }
        defer { withExtendedLifetime(run) {} }
        return try vcpu.run()
    }

    @Test func `every kind of exit is decoded from where the kernel writes it`() throws {
        #expect(
            try exit(reason: 2) { run in
                run.storeBytes(of: 1, toByteOffset: 32, as: UInt8.self)
                run.storeBytes(of: 2, toByteOffset: 33, as: UInt8.self)
                run.storeBytes(of: 0x3F8, toByteOffset: 34, as: UInt16.self)
                run.storeBytes(of: 2, toByteOffset: 36, as: UInt32.self)
                run.storeBytes(of: 4096, toByteOffset: 40, as: UInt64.self)
                run.storeBytes(of: 0x0403_0201, toByteOffset: 4096, as: UInt32.self)
            } == .io(isWrite: true, size: 2, port: 0x3F8, data: [1, 2, 3, 4]))
        #expect(
            try exit(reason: 3) { run in
                for (index, value) in [12, 0x1000, 2, 0x10, 4, 5, 6].enumerated() {
                    run.storeBytes(of: UInt64(value), toByteOffset: 32 + index * 8, as: UInt64.self)
                }
            } == .hypercall(number: 12, arguments: [0x1000, 2, 0x10, 4, 5, 6]))
        #expect(
            try exit(reason: 6) { run in
                run.storeBytes(of: 0xFEE0_0000, toByteOffset: 32, as: UInt64.self)
                run.storeBytes(of: 0x8877_6655_4433_2211, toByteOffset: 40, as: UInt64.self)
                run.storeBytes(of: 4, toByteOffset: 48, as: UInt32.self)
                run.storeBytes(of: 1, toByteOffset: 52, as: UInt8.self)
            } == .mmio(isWrite: true, address: .init(0xFEE0_0000), data: [0x11, 0x22, 0x33, 0x44]))
        #expect(
            try exit(reason: 24) { run in
                run.storeBytes(of: 7, toByteOffset: 32, as: UInt32.self)
                run.storeBytes(of: 16, toByteOffset: 36, as: UInt32.self)
                for index in 0..<16 { run.storeBytes(of: UInt64(index), toByteOffset: 40 + index * 8, as: UInt64.self) }
            } == .systemEvent(type: 7, data: (0..<16).map { UInt64($0) }))
        #expect(
            try exit(reason: 17) { run in
                run.storeBytes(of: 3, toByteOffset: 32, as: UInt32.self)
                run.storeBytes(of: 99, toByteOffset: 36, as: UInt32.self)
            } == .internalError(subcode: 3, data: .init(repeating: 0, count: 16)))
        #expect(
            try exit(reason: 40) { run in
                for (index, value) in [0, 0x10002, 1 << 63 | 3, 0x7000, 0x2000].enumerated()
                    as EnumeratedSequence<[UInt64]>
                {
                    run.storeBytes(of: value, toByteOffset: 32 + index * 8, as: UInt64.self)
                }
            } == .tdx(.getQuote(buffer: .init(0x7000), size: 0x2000)))
        for (number, expected) in [
            (0x10000, .getTDVMCallInfo(leaf: 77)), (0x10004, .setupEventNotify(vector: 77)),
            (0x1234, .other(number: 0x1234, flags: 5)),
        ] as [(UInt64, TDXExit)] {
            #expect(
                try exit(reason: 40) { run in
                    run.storeBytes(of: number == 0x1234 ? 5 : 0, toByteOffset: 32, as: UInt64.self)
                    run.storeBytes(of: number, toByteOffset: 40, as: UInt64.self)
                    run.storeBytes(of: 77, toByteOffset: 56, as: UInt64.self)
                } == .tdx(expected))
        }
        #expect(
            try exit(reason: 9) { $0.storeBytes(of: 0x8000_0021, toByteOffset: 32, as: UInt64.self) }
                == .failedEntry(reason: 0x8000_0021))
        #expect(try exit(reason: 5) == .halt)
        #expect(try exit(reason: 8) == .shutdown)
        #expect(try exit(reason: 4242) == .other(reason: 4242))
    }

    @Test(arguments: ["EFAULT", "EHWPOISON"])
    func `a memory fault comes with an error, and only with these two`(name: String) throws {
        let fault: @Sendable (UnsafeMutableRawPointer) -> Void = { run in
            run.storeBytes(of: 8, toByteOffset: 32, as: UInt64.self)
            run.storeBytes(of: 0x7000, toByteOffset: 40, as: UInt64.self)
            run.storeBytes(of: 4096, toByteOffset: 48, as: UInt64.self)
        }
        let errno = try #require(Errno(named: name))
        #expect(
            try exit(reason: 39, result: -errno.rawValue, fault)
                == .memoryFault(isPrivate: true, address: .init(0x7000), size: .kibibytes(4)))
        // The same error with another exit reason is no memory fault.
        expectRefusal(errno) { _ = try exit(reason: 17, result: -errno.rawValue) }
        // Another error with this exit reason neither.
        expectRefusal(.noMemory) { _ = try exit(reason: 39, result: -ENOMEM, fault) }
        #expect(try exit(reason: 10, result: -EINTR) == .interrupted)
    }

    @Test func `answers go where the kernel looks for them`() throws {
        let area = Mutex<UInt>(0)
        let reason = Mutex<UInt32>(0)
        let (vcpu, run) = try vcpu { _, _ in
            let base = UnsafeMutableRawPointer(bitPattern: area.withLock { $0 })!
            base.storeBytes(of: reason.withLock { $0 }, toByteOffset: 8, as: UInt32.self)
            return 0
        }
        area.withLock { $0 = UInt(bitPattern: run.baseAddress) }
        let base = run.baseAddress

        reason.withLock { $0 = 3 }
        _ = try vcpu.run()
        vcpu.completeHypercall(11)
        #expect(base.load(fromByteOffset: 88, as: UInt64.self) == 11)

        reason.withLock { $0 = 2 }
        base.storeBytes(of: 0, toByteOffset: 32, as: UInt8.self)
        base.storeBytes(of: 4, toByteOffset: 33, as: UInt8.self)
        base.storeBytes(of: 1, toByteOffset: 36, as: UInt32.self)
        base.storeBytes(of: 8188, toByteOffset: 40, as: UInt64.self)
        _ = try vcpu.run()
        vcpu.completeInput([1, 2, 3, 4])
        #expect(base.load(fromByteOffset: 8188, as: UInt32.self) == 0x0403_0201)

        reason.withLock { $0 = 6 }
        base.storeBytes(of: 0xA000, toByteOffset: 32, as: UInt64.self)
        base.storeBytes(of: 2, toByteOffset: 48, as: UInt32.self)
        base.storeBytes(of: 0, toByteOffset: 52, as: UInt8.self)
        #expect(try vcpu.run() == .mmio(isWrite: false, address: .init(0xA000), data: [0, 0]))
        vcpu.completeInput([0xAB, 0xCD])
        #expect(base.load(fromByteOffset: 40, as: UInt16.self) == 0xCDAB)

        vcpu.setImmediateExit(true)
        #expect(base.load(fromByteOffset: 1, as: UInt8.self) == 1)
        vcpu.setImmediateExit(false)
        #expect(base.load(fromByteOffset: 1, as: UInt8.self) == 0)
    }
}
