import Glibc
import KVM
import LinuxSystem
import MemoryUnits
import Testing

@testable import TDXEmulator

/// TDs one after another, in a process of their own, whose memory and descriptors nobody else changes.
@Suite struct CycleTests {
    @Test func `A thousand TDs that are filled and shut down leave frames, keys, memory and descriptors as they were`()
        async
    {
        await #expect(processExitsWith: .success) {
            let system = try EmulatedKVMSystem(EmulatorConfiguration(host: .memfd, memory: .gibibytes(16)))
            let keys = system.freeKeyIDs
            func cycle(terminating: Bool) throws {
                let vm = try system.createTrustDomainVM()
                try vm.enable(.splitIRQChip, [24])
                try vm.tdxInitialize(TestTD.parameters())
                let vcpu = try vm.createVCPU(id: 0)
                try vcpu.initialize()
                let size = ByteCount.mebibytes(2)
                let memory = try vm.createGuestMemory(size: size, flags: [])
                let whole = GuestPhysicalRange(start: GuestPhysicalAddress(0), size: size)
                try vm.setMemorySlot(MemorySlot(id: 0, range: whole, userspaceAddress: 0, guestMemory: memory))
                try vm.setMemoryAttributes(whole, isPrivate: true)
                try vm.tdxFinalize()
                // Every fifth page: tables are walked, the file is sparse.
                for page in stride(from: UInt64(0), to: 512, by: 5) {
                    try vcpu.preFault(GuestPhysicalRange(start: GuestFrameNumber(page).address, size: ByteCount(4096)))
                }
                precondition(vm.inspection.privatePages == PageCount(103))
                if terminating { try vm.tdxTerminate() }
                memory.close()
                vcpu.close()
                vm.close()
                precondition(vm.inspection.isDestroyed && vm.inspection.leakedPages == .zero)
            }
            func descriptors() -> Int { (0..<1024).count { fcntl($0, F_GETFD) >= 0 } }
            // Resident pages of the process: the second number of /proc/self/statm.
            func resident() -> Int {
                let file = fopen("/proc/self/statm", "r")!
                defer { fclose(file) }
                var line = [CChar](repeating: 0, count: 256)
                fgets(&line, Int32(line.count), file)
                let text = String(decoding: line.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
                return Int(text.split(separator: " ")[1])!
            }
            // What is allocated once and kept is there after the first hundred.
            for round in 0..<100 { try cycle(terminating: round % 2 == 0) }
            let before = (resident(), descriptors())
            for round in 100..<1000 { try cycle(terminating: round % 2 == 0) }
            let after = (resident(), descriptors())
            precondition(after.1 == before.1, "\(before.1) descriptors became \(after.1)")
            // 900 TDs may leave less than a page each of the allocator's own fragmentation: a leak of one table is 3.6 MiB.
            precondition(after.0 < before.0 + 512, "\(before.0) resident pages became \(after.0)")
            precondition(system.freeKeyIDs == keys)
            precondition(system.framesInUse.controlPages == 0 && system.framesInUse.fileChunks == 0)
        }
    }
}
