import Glibc
import KVM
import LinuxSystem
import MemoryUnits
import TDXEmulator
import TDXModule
import TDXStatusCodes
import Testing

/// The examples of docs/, compiled and run. Between `// begin: FILE` and `// end` stands the page's code, line by line.
@Suite struct DocumentedExampleTests {
    @Test func `The emulator's example runs a guest that converts a page, and ends with nothing left`() throws {
        // begin: emulator.md
        let guest = GuestProgram { processor throws(GuestFault) in
            let kernel = GuestKernel(processor)  // accepts what it touches
            let page = GuestPhysicalRange(start: GuestPhysicalAddress(0x1000), size: ByteCount(4096))
            try kernel.write(page.start, [1, 2, 3])
            guard try kernel.convert(page, toShared: true) else { return }
            try kernel.write(page.start, [4, 5, 6])
        }
        // .guestMemfd(kernel) and .softwareProtected(kernel) take their memory from /dev/kvm.
        let system = try EmulatedKVMSystem(EmulatorConfiguration(host: .memfd, guest: guest))
        let vm = try system.createTrustDomainVM()
        try vm.enable(.splitIRQChip, [24])
        try vm.enable(.exitHypercall, [1 << 12])
        let zeros = [UInt8](repeating: 0, count: 48)
        try vm.tdxInitialize(  // key id, TDR, TDCS: MNG.CREATE … MNG.INIT
            TDXInitialization(
                attributes: 0, xfam: 3, mrConfigID: zeros, mrOwner: zeros, mrOwnerConfig: zeros,
                cpuid: [CPUIDEntry(function: 0x8000_0008, eax: 48 << 16)]))
        let vcpu = try vm.createVCPU(id: 0)
        try vcpu.setCPUID(TrustDomainCPUID.ofVCPU(told: vcpu.tdxCPUID(), guestAddressBits: 48))  // x2APIC, widths
        try vcpu.tdxInitialize(initialRCX: 0)

        let size = ByteCount.mebibytes(2)
        let all = GuestPhysicalRange(start: GuestPhysicalAddress(0), size: size)
        let memory = try vm.createGuestMemory(size: size, flags: [])
        let shared = try MemoryFile(name: "shared", size: size).map(length: size)
        try vm.setMemorySlot(
            MemorySlot(
                id: 0, range: all, userspaceAddress: UInt(bitPattern: shared.baseAddress), guestMemory: memory))
        try vm.setMemoryAttributes(all, isPrivate: true)
        try vm.tdxFinalize()

        while case .hypercall(number: 12, let arguments) = try vcpu.run() {  // MapGPA
            let range = GuestPhysicalRange(
                start: GuestPhysicalAddress(arguments[0]), size: PageCount(arguments[1]).bytes)
            try vm.setMemoryAttributes(range, isPrivate: arguments[2] & 16 != 0)
            vcpu.completeHypercall(0)
        }
        print(shared.baseAddress.load(fromByteOffset: 0x1000, as: UInt8.self))  // 4
        print(vm.inspection.privatePages)  // 0 pages: what was accepted was converted

        memory.close()
        vcpu.close()
        vm.close()  // VP.FLUSH … KEY.FREEID, RECLAIM
        print(vm.inspection.isDestroyed, system.freeKeyIDs)  // true 1
        // end
        #expect(shared.baseAddress.load(fromByteOffset: 0x1000, as: UInt8.self) == 4)
        #expect(vm.inspection.privatePages == .zero)
        #expect(vm.inspection.isDestroyed && system.freeKeyIDs == 1 && vm.inspection.bug == nil)
    }

    @Test func `The module's example brings it up and creates a trust domain`() throws {
        // begin: tdx-module.md
        let platform = PlatformDescription(memory: .gibibytes(64), packages: 2)
        let module = try TDXModule(platform: platform, memory: SimulatedMemory())
        module.bringUp()  // SYS.INIT … TDMR.INIT, as a host at boot

        let tdr = module.usableMemory[0].start.rawValue
        var registers = Registers(.mngCreate, rcx: tdr, rdx: UInt64(platform.privateKeyIDs.lowerBound) + 1)
        let status = module.seamcall(&registers, on: LogicalProcessorID(0))
        print(status)  // 0x0000000000000000 SUCCESS
        // end
        #expect("\(status)" == "0x0000000000000000 SUCCESS")
        #expect(module.trustDomain(HostPhysicalAddress(tdr)) != nil)
    }

    @Test(arguments: ["emulator.md", "tdx-module.md"])
    func `The page shows the code that is tested`(page: String) throws {
        let here = #filePath
        let root = here.split(separator: "/", omittingEmptySubsequences: false).dropLast(3).joined(separator: "/")
        let tested = try #require(try Self.lines(of: here, from: { $0 == "// begin: \(page)" }, to: { $0 == "// end" }))
        let shown = try #require(
            try Self.lines(of: "\(root)/docs/\(page)", from: { $0 == "```swift" }, to: { $0 == "```" }))
        // The page has the imports, too.
        #expect(shown.filter { !$0.hasPrefix("import ") } == tested)
    }

    /// The first lines between two others, without indentation and empty ones.
    private static func lines(
        of path: String, from: (Substring) -> Bool, to: (Substring) -> Bool
    ) throws -> [Substring]? {
        let file = try #require(fopen(path, "r"))
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        bytes.removeLast(bytes.count - fread(&bytes, 1, bytes.count, file))
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n").map { $0.drop { $0 == " " } }
        guard let first = lines.firstIndex(where: from) else { return nil }
        return Array(lines[(first + 1)...].prefix { !to($0) })
    }
}
