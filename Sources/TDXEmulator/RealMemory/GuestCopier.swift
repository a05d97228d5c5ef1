internal import KVM
internal import LinuxSystem
internal import MemoryUnits
internal import SystemPackage

/// Moves pages in and out of guest-private memory that the host cannot map, with a real vCPU of the VM that owns it.
///
/// The vCPU runs a program of a few instructions out of a small slot of shared memory: it turns on PAE paging, so that a
/// window reaches any guest-physical page, copies 4 KiB between the window and a bounce page, and writes to a port. What
/// it touches in the window is private or shared by the VM's attributes, so the bytes stay with the guest.
final class GuestCopier: @unchecked Sendable {
    /// Which way the bytes go.
    enum Direction {
        /// From guest-private memory to the caller.
        case fetch
        /// From the caller to guest-private memory.
        case store
    }

    /// The slot's size: code, page tables, bounce page.
    static let size = ByteCount.kibibytes(64)
    /// Slot id; high, so that it meets no VMM's own.
    static let slotID: UInt32 = 32_763
    private static let donePort: UInt16 = 0xF4

    private enum Place {
        static let code = 0x0000
        static let pointerTable = 0x1000
        static let codeDirectory = 0x2000
        static let windowDirectory = 0x3000
        static let bounce = 0x4000
    }

    private static let program: [UInt8] = [
        0x0F, 0x20, 0xE1,  // mov ecx, cr4
        0x83, 0xC9, 0x20,  // or ecx, 0x20 (PAE)
        0x0F, 0x22, 0xE1,  // mov cr4, ecx
        0x0F, 0x22, 0xD8,  // mov cr3, eax
        0x0F, 0x20, 0xC1,  // mov ecx, cr0
        0x81, 0xC9, 0x00, 0x00, 0x00, 0x80,  // or ecx, 0x80000000 (PG)
        0x0F, 0x22, 0xC1,  // mov cr0, ecx
        0xEB, 0x00,  // jmp to the next instruction
        0xFC,  // cld
        0xB9, 0x00, 0x04, 0x00, 0x00,  // mov ecx, 1024
        0xF3, 0xA5,  // rep movsd
        0xE6, UInt8(donePort),  // out 0xF4, al
        0xF4,  // hlt
    ]

    /// The slot's place, below 4 GiB.
    let range: GuestPhysicalRange
    private let machine: any KVMVirtualMachine
    private let vcpu: any KVMVirtualCPU
    private let memory: FileMapping
    private let file: MemoryFile
    private let lock = Lock()

    /// - Parameters:
    ///   - machine: the real VM.
    ///   - vcpu: a vCPU of it without another user.
    ///   - base: 64 KiB-aligned and below 4 GiB, where nothing of the VM is.
    init(_ machine: any KVMVirtualMachine, vcpu: any KVMVirtualCPU, at base: GuestPhysicalAddress) throws(KVMError) {
        self.machine = machine
        self.vcpu = vcpu
        range = GuestPhysicalRange(start: base, size: Self.size)
        do throws(LinuxError) {
            file = try MemoryFile(name: "tdxd-copier", size: Self.size)
            memory = try file.map(length: Self.size)
        } catch {
            throw KVMError(error.operation, error.errno, detail: error.detail)
        }
        for (index, byte) in Self.program.enumerated() {
            memory.baseAddress.storeBytes(of: byte, toByteOffset: Place.code + index, as: UInt8.self)
        }
        try machine.setMemorySlot(
            MemorySlot(id: Self.slotID, range: range, userspaceAddress: UInt(bitPattern: memory.baseAddress)))
    }

    /// Takes the slot away; the vCPU stays its owner's.
    func close() {
        try? machine.deleteMemorySlot(Self.slotID)
        memory.unmap()
        file.close()
    }

    /// Copies one page. `page` is 4,096 bytes, written for `.fetch` and read for `.store`.
    func copy(_ direction: Direction, _ address: GuestPhysicalAddress, _ page: UnsafeMutableRawBufferPointer)
        throws(KVMError)
    {
        precondition(page.count == Int(pageSize) && address.isPageAligned)
        try lock.withLock { () throws(KVMError) in
            let bounce = UnsafeMutableRawBufferPointer(start: memory.baseAddress + Place.bounce, count: page.count)
            if direction == .store { bounce.copyMemory(from: UnsafeRawBufferPointer(page)) }
            writeTables(window: address)
            let inWindow = windowBase + (address.rawValue & 0x1F_FFFF)
            let inBounce = range.start.rawValue + UInt64(Place.bounce)
            var registers = VCPURegisters()
            registers.rip = range.start.rawValue + UInt64(Place.code)
            registers.rax = range.start.rawValue + UInt64(Place.pointerTable)
            registers.rsi = direction == .store ? inBounce : inWindow
            registers.rdi = direction == .store ? inWindow : inBounce
            try vcpu.start(mode: .protected32, registers: registers)
            try runToPort(address)
            if direction == .fetch { page.copyMemory(from: UnsafeRawBufferPointer(bounce)) }
        }
    }

    private func runToPort(_ address: GuestPhysicalAddress) throws(KVMError) {
        while true {
            switch try vcpu.run() {
            case .io(isWrite: true, size: 1, port: Self.donePort, data: _): return
            case .interrupted: continue
            case let exit:
                throw KVMError("KVM_RUN", .ioError, detail: "copying the private page \(address) ended with \(exit)")
            }
        }
    }

    /// A gibibyte of the program's address space away from its own.
    private var windowBase: UInt64 { range.start.rawValue >> 30 == 1 ? 2 << 30 : 1 << 30 }

    /// All entries, for each copy anew: a processor may leave an accessed bit in a page-directory pointer (QEMU's
    /// software processor does), where it is reserved, so that turning on paging again would fault.
    private func writeTables(window address: GuestPhysicalAddress) {
        let base = range.start.rawValue
        // Page-directory pointers: present.
        put(base + UInt64(Place.codeDirectory) | 1, at: Place.pointerTable + Int(base >> 30) * 8)
        put(base + UInt64(Place.windowDirectory) | 1, at: Place.pointerTable + Int(windowBase >> 30) * 8)
        // Present, writable, large: the program's own 2 MiB where they are, and the 2 MiB around the page.
        put(base & ~0x1F_FFFF | 0x83, at: Place.codeDirectory + Int(base >> 21 & 511) * 8)
        put(address.rawValue & ~0x1F_FFFF | 0x83, at: Place.windowDirectory)
    }

    private func put(_ entry: UInt64, at offset: Int) {
        memory.baseAddress.storeBytes(of: entry.littleEndian, toByteOffset: offset, as: UInt64.self)
    }
}
