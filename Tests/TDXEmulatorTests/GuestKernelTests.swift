import KVM
import LinuxSystem
import MemoryUnits
import SystemPackage
import Testing

@testable import TDXEmulator

/// A guest's kernel that accepts and converts by itself, against a VMM that converts as asked.
@Suite struct GuestKernelTests {
    /// Runs the guest and does what it asks for; the number of hypercall exits. `refuse` answers some with EAGAIN.
    private func serve(_ td: TestTD, refuse: (Int) -> Bool = { _ in false }) throws -> Int {
        var exits = 0
        while case .hypercall(12, let arguments) = try td.vcpus[0].run() {
            exits += 1
            if refuse(exits) {
                td.vcpus[0].completeHypercall(UInt64(Errno.resourceTemporarilyUnavailable.rawValue))
                continue
            }
            let range = td.range(arguments[0], arguments[1] * 4096)
            let isPrivate = arguments[2] & 16 != 0
            try td.vm.setMemoryAttributes(range, isPrivate: isPrivate)
            if !isPrivate {
                try td.memory.punchHole(FileRange(offset: ByteCount(arguments[0]), length: range.size))
            }
            td.vcpus[0].completeHypercall(0)
        }
        return exits
    }

    private func launch(
        _ host: TestHost, _ body: @escaping @Sendable (GuestProcessor) throws(GuestFault) -> Void
    ) throws -> TestTD {
        let td = try TestTD(host, size: .mebibytes(8), configure: { $0.guest = GuestProgram(body) })
        try td.vm.tdxFinalize()
        return td
    }

    @Test(arguments: TestHost.available)
    func `A lazy guest accepts exactly what it touches`(host: TestHost) throws {
        let td = try launch(host) { processor throws(GuestFault) in
            let kernel = GuestKernel(processor)
            // Over a page's end: both pages are pre-faulted, so both raise #VE first.
            try kernel.write(GuestPhysicalAddress(0x1FFE), [1, 2, 3, 4])
            guard try kernel.read(GuestPhysicalAddress(0x1FFD), count: 6) == [0, 1, 2, 3, 4, 0] else { return }
            try processor.writeShared(GuestPhysicalAddress(0x70_0000), [1])
        }
        try td.vm.setMemoryAttributes(td.range(0x70_0000, 0x1000), isPrivate: false)
        try td.vcpus[0].preFault(td.range(0, 0x4000))
        #expect(try serve(td) == 0)
        #expect(td.shared.baseAddress.load(fromByteOffset: 0x70_0000, as: UInt8.self) == 1)
        #expect(try td.contents(0x1FFE, 4) == [1, 2, 3, 4])
        td.close()
        td.expectNothingLeft()
    }

    @Test(arguments: TestHost.available)
    func `An eager guest falls back to small pages and keeps its data through conversions beside it`(
        host: TestHost
    ) throws {
        let verdicts = MutexBox<[Bool]>([])
        let td = try launch(host) { processor throws(GuestFault) in
            let kernel = GuestKernel(processor, acceptance: .eager)
            let low = GuestPhysicalRange(start: GuestPhysicalAddress(0), size: .mebibytes(2))
            let high = GuestPhysicalRange(start: GuestPhysicalAddress(2 << 20), size: .mebibytes(5))
            verdicts.append(try kernel.accept(low))
            try kernel.write(GuestPhysicalAddress(0x10_0000), [42])
            verdicts.append(try kernel.convert(high, toShared: true))
            verdicts.append(try kernel.convert(high, toShared: false))
            verdicts.append(try kernel.read(GuestPhysicalAddress(0x10_0000), count: 1) == [42])
            verdicts.append(try kernel.read(high.start, count: 1) == [0])
        }
        // The second piece is put off once: the guest goes on from there.
        #expect(try serve(td, refuse: { $0 == 2 }) == 7)
        #expect(verdicts.value == [true, true, true, true, true])
        // Of 8 MiB the guest accepted 7.
        #expect(td.vm.inspection.privatePages == ByteCount.mebibytes(7).pages)
        td.close()
        td.expectNothingLeft()
    }

    @Test func `A host that refuses is told apart from one that puts off`() throws {
        let verdicts = MutexBox<[Bool]>([])
        let td = try launch(.memfd) { processor throws(GuestFault) in
            let range = GuestPhysicalRange(start: GuestPhysicalAddress(0), size: .mebibytes(1))
            verdicts.append(try GuestKernel(processor).convert(range, toShared: true))
        }
        #expect(try td.vcpus[0].run() == .hypercall(number: 12, arguments: [0, 256, 0, 0, 0, 0]))
        td.vcpus[0].completeHypercall(UInt64(Errno.invalidArgument.rawValue))
        #expect(try td.vcpus[0].run() == .halt)
        #expect(verdicts.value == [false])
        td.close()
        td.expectNothingLeft()
    }
}
