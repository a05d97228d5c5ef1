import Glibc
import KVM
import LinuxSystem
import MemoryUnits
import SystemPackage
import TDXStatusCodes
import Testing

@testable import TDXEmulator

/// Rows C1 to C11, E1 and E2 of the kernel's own conversion tests (reference/kvm.md §7.3, §7.4), on an emulated TD. The rows
/// that are tests elsewhere carry their number in their name, too.
@Suite struct ConversionConformanceTests {
    /// Per-vCPU data, 2 MiB and a page more, so that every sub-range has something behind it.
    static let dataPages: UInt64 = 513

    /// A part of the data, in pages, and whether the host allocates and punches alongside (C9).
    struct Case: CustomTestStringConvertible, Sendable {
        var host: TestHost
        var first: UInt64
        var pages: UInt64
        var alsoFile: Bool
        var testDescription: String {
            "\(host), pages \(first) ..< \(first + pages)\(alsoFile ? ", allocating and punching" : "")"
        }

        /// [0, 4K) [0, 2M) [4K, 8K) [4K, 4K + 2M) [2M, 2M + 4K)
        static let parts: [(UInt64, UInt64)] = [(0, 1), (0, 512), (1, 1), (1, 512), (512, 1)]
        static var all: [Case] {
            TestHost.available.flatMap { host in
                parts.flatMap { part in
                    [false, true].map { Case(host: host, first: part.0, pages: part.1, alsoFile: $0) }
                }
            }
        }
    }

    /// Where a vCPU's data begins: each has 4 MiB of its own.
    static func base(_ vcpu: UInt32) -> UInt64 { UInt64(vcpu) << 22 }

    /// The guest: one step of the rows after another; between them the host looks, at a port write with the step's number.
    static func guest(_ test: Case) -> GuestProgram {
        GuestProgram { processor throws(GuestFault) in
            let data = GuestPhysicalAddress(base(processor.id))
            let part = test.first..<test.first + test.pages
            func address(_ page: UInt64) -> GuestPhysicalAddress { data + PageCount(page).bytes }
            func report(_ step: UInt8) throws(GuestFault) {
                _ = try processor.vmcall(30, r12: 1, r13: 1, r14: 0x80, r15: UInt64(step))
            }
            func expect(_ seen: [UInt8], _ value: UInt8, _ row: UInt8) throws(GuestFault) {
                if seen != [value] { try report(0x80 | row) }
            }
            func map(_ pages: Range<UInt64>, toShared: Bool) throws(GuestFault) {
                let range = GuestPhysicalRange(
                    start: address(pages.lowerBound), size: PageCount(UInt64(pages.count)).bytes)
                if try processor.mapGPA(range, toShared: toShared).status != 0 { try report(0x83) }
            }
            for page in 0..<dataPages { try processor.writeShared(address(page), [0x11]) }
            try report(1)
            for page in 0..<dataPages { try expect(processor.readShared(address(page), count: 1), 0x22, 2) }
            try map(part, toShared: false)
            for page in part {
                if try !processor.accept(address(page)).isSuccess { try report(0x84) }
                try processor.write(address(page), [0x33])
            }
            try report(4)
            for page in 0..<dataPages where !part.contains(page) {
                try expect(processor.readShared(address(page), count: 1), 0x22, 6)
            }
            for page in part where page % 2 == 1 { try map(page..<page + 1, toShared: true) }
            try report(7)
            for page in part {
                if page % 2 == 1 {
                    try expect(processor.readShared(address(page), count: 1), 0x44, 7)
                } else {
                    try expect(processor.read(address(page), count: 1), 0x33, 7)
                }
            }
            try map(part, toShared: true)
            for page in part { try processor.writeShared(address(page), [0x55]) }
            try report(8)
            for page in part { try expect(processor.readShared(address(page), count: 1), 0x66, 8) }
        }
    }

    /// The host of one vCPU: converts as asked, and at each step checks and changes the shared side. Its complaints.
    static func serve(_ test: Case, _ td: TestTD, _ vcpu: EmulatedVirtualCPU) throws -> [String] {
        var complaints: [String] = []
        let start = base(vcpu.id)
        let shared = td.shared.baseAddress + Int(start)
        func check(_ pages: Range<UInt64>, _ value: UInt8, _ row: String) {
            for page in pages where shared.load(fromByteOffset: Int(page) * 4096, as: UInt8.self) != value {
                complaints.append("\(row): the host does not see \(value) in page \(page)")
            }
        }
        func fill(_ pages: Range<UInt64>, _ value: UInt8) {
            for page in pages { shared.storeBytes(of: value, toByteOffset: Int(page) * 4096, as: UInt8.self) }
        }
        let part = test.first..<test.first + test.pages
        var steps: [UInt8] = []
        var asked: [[UInt64]] = []
        while true {
            switch try vcpu.run() {
            case .hypercall(12, let arguments):
                asked.append(Array(arguments.prefix(3)))
                let range = td.range(arguments[0], arguments[1] * 4096)
                let isPrivate = arguments[2] & 16 != 0
                try td.vm.setMemoryAttributes(range, isPrivate: isPrivate)
                if test.alsoFile {
                    let file = FileRange(offset: ByteCount(arguments[0]), length: range.size)
                    if isPrivate { try td.memory.allocate(file) } else { try td.memory.punchHole(file) }
                }
                vcpu.completeHypercall(0)
            case .io(isWrite: true, size: 1, port: 0x80, let data):
                steps.append(data[0])
                switch data[0] {
                case 1:
                    check(0..<dataPages, 0x11, "C1")
                    fill(0..<dataPages, 0x22)
                case 4:
                    // C3: exactly one exit for the part, in bytes and pages as asked; C4: none for the writes.
                    if asked != [[start + test.first * 4096, test.pages, 16]] { complaints.append("C3: \(asked)") }
                    check(part, 0x22, "C5")
                case 7: fill(part, 0x44)
                case 8:
                    check(part, 0x55, "C8")
                    fill(part, 0x66)
                case let step: complaints.append("row C\(step & 0x7F): the guest does not find what it expects")
                }
            case .halt:
                if !steps.starts(with: [1, 4, 7, 8]) { complaints.append("steps \(steps)") }
                return complaints
            case let exit: return complaints + ["the guest stopped with \(exit)"]
            }
        }
    }

    @Test(arguments: Case.all)
    func `C1 to C9 either side sees its own memory, before, during and after conversions`(test: Case) throws {
        let td = try TestTD(test.host, configure: { $0.guest = Self.guest(test) })
        try td.vm.setMemoryAttributes(td.whole, isPrivate: false)
        try td.vm.tdxFinalize()
        #expect(try Self.serve(test, td, td.vcpus[0]) == [])
        #expect(td.vm.inspection.privatePages == .zero)
        if test.alsoFile { try td.expectResident(.zero) }
        td.close()
        td.expectNothingLeft()
    }

    @Test(arguments: TestHost.available)
    func `C10 a punched part of private memory comes back as zeros, without an exit`(host: TestHost) throws {
        // Faulted in: nothing but the part; everything.
        for faulted: Range<UInt64> in [16..<24, 0..<64] {
            let wrong = MutexBox<[UInt64]>([])
            let td = try TestTD(
                host,
                configure: {
                    $0.guest = GuestProgram { processor throws(GuestFault) in
                        let kernel = GuestKernel(processor)
                        for page in faulted { try kernel.write(GuestFrameNumber(page).address, [UInt8(page) + 1]) }
                        _ = try processor.vmcall(30, r12: 1, r13: 1, r14: 0x80)
                        for page in faulted {
                            let expected = (16..<24).contains(page) ? 0 : UInt8(page) + 1
                            let seen = try kernel.read(GuestFrameNumber(page).address, count: 1)
                            if seen != [expected] { wrong.append(page) }
                        }
                    }
                })
            try td.vm.tdxFinalize()
            try td.memory.punchHole(td.wholeFile)
            #expect(try td.vcpus[0].run() == .io(isWrite: true, size: 1, port: 0x80, data: [0]))
            try td.expectResident(PageCount(UInt64(faulted.count)))
            try td.memory.punchHole(FileRange(offset: ByteCount(16 * 4096), length: ByteCount(8 * 4096)))
            try td.expectResident(PageCount(UInt64(faulted.count - 8)))
            #expect(try td.vcpus[0].run() == .halt)
            #expect(wrong.value == [])
            #expect(td.vm.inspection.privatePages == PageCount(UInt64(faulted.count)))
            td.close()
            td.expectNothingLeft()
        }
    }

    @Test(arguments: TestHost.available)
    func `C11 the same for vCPUs at once, their ranges in slots of one file`(host: TestHost) throws {
        let test = Case(host: host, first: 1, pages: 512, alsoFile: true)
        let td = try TestTD(host, size: .mebibytes(8), vcpus: 2, configure: { $0.guest = Self.guest(test) })
        try td.vm.deleteMemorySlot(0)
        // Slots that meet in the middle of each vCPU's data.
        let edges: [UInt64] = [0, 1, 5, 8].map { $0 << 20 }
        for (id, edge) in edges.dropLast().enumerated() {
            var slot = td.slot(id: UInt32(id))
            slot.range = td.range(edge, edges[id + 1] - edge)
            slot.userspaceAddress += UInt(edge)
            slot.guestMemoryOffset = ByteCount(edge)
            try td.vm.setMemorySlot(slot)
        }
        try td.vm.setMemoryAttributes(td.whole, isPrivate: false)
        try td.vm.tdxFinalize()
        let complaints = MutexBox<[String]>([])
        nonisolated(unsafe) let shared = td
        let errors = Threads.run(
            td.vcpus.map { vcpu in
                { try Self.serve(test, shared, vcpu).forEach { complaints.append($0) } }
            })
        #expect(errors.isEmpty, "\(errors)")
        #expect(complaints.value == [])
        td.close()
        td.expectNothingLeft()
    }

    @Test(arguments: TestHost.available)
    func `E2 a private access where the slot has no guest memory is a memory fault`(host: TestHost) throws {
        let page = GuestPhysicalAddress(0x3000)
        let td = try TestTD(
            host,
            configure: {
                $0.guest = GuestProgram { processor throws(GuestFault) in _ = try processor.read(page, count: 1) }
            })
        try td.vm.deleteMemorySlot(0)
        var slot = td.slot()
        slot.guestMemory = nil
        try td.vm.setMemorySlot(slot)
        try td.vm.tdxFinalize()
        #expect(
            try td.vcpus[0].run() == .memoryFault(isPrivate: true, address: page, size: ByteCount(4096)))
        td.close()
        td.expectNothingLeft()
    }

    @Test(arguments: TestHost.available)
    func `X5 a guest's access to memory whose file was closed is a memory fault, and the slot can still go`(
        host: TestHost
    ) throws {
        let page = GuestPhysicalAddress(0x3000)
        let td = try TestTD(
            host,
            configure: {
                $0.guest = GuestProgram { processor throws(GuestFault) in
                    let kernel = GuestKernel(processor)
                    try kernel.write(page, [1])
                    _ = try processor.vmcall(30, r12: 1, r13: 1, r14: 0x80)
                    _ = try kernel.read(page, count: 1)
                }
            })
        try td.vm.tdxFinalize()
        #expect(try td.vcpus[0].run() == .io(isWrite: true, size: 1, port: 0x80, data: [0]))
        td.memory.close()
        #expect(
            try td.vcpus[0].run() == .memoryFault(isPrivate: true, address: page, size: ByteCount(4096)))
        try td.vm.deleteMemorySlot(0)
        td.close()
        td.expectNothingLeft()
    }
}
