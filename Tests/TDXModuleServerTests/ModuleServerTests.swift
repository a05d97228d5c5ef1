import Glibc
import LinuxSystem
import MemoryUnits
import TDXModule
import TDXModuleServer
import TDXStatusCodes
import Testing

/// The server with a stand-in for the kernel: what a machine does, without one.
@Suite struct ModuleServerTests {
    @Test func `calls of two processors are answered, and counted by leaf`() throws {
        let kernel = try StandInKernel()
        try kernel.boot()
        #expect(kernel.call(Registers(.sysInit)).rax == 0)
        // Both are under way before either answer is taken.
        kernel.ask(Registers(.sysLpInit), on: 0)
        kernel.ask(Registers(.sysLpInit), on: 1)
        let results = [kernel.answer(on: 1).rax, kernel.answer(on: 0).rax]
        // SYS.LP.INIT takes the whole module: who comes at the same moment is told that it is busy.
        for result in results { #expect(TDXStatus(result).isSuccess || TDXStatus(result).isBusy) }
        let unknown = kernel.call(Registers(rax: 0x1FF))
        #expect(!TDXStatus(unknown.rax).isSuccess)
        let report = try kernel.powerOff()
        #expect(report.calls == 4 && report.isClean)
        #expect(report.leaves.first { $0.leaf == "TDH.SYS.LP.INIT" }?.calls == 2)
        #expect(report.leaves.first { $0.leaf == "leaf 511" }?.refusals.map(\.value) == [1])
    }

    @Test func `a kernel of another version ends the server with both versions named`() throws {
        let kernel = try StandInKernel()
        try kernel.boot("seamlab 7 100000 2 31 32 46")
        let error = #expect(throws: ServerError.self) { try kernel.powerOff() }
        #expect(error?.description.contains("version “7”") == true)
    }

    @Test func `mailboxes outside the memory are refused`() throws {
        let kernel = try StandInKernel()
        // The last page below 4 GiB: the second processor's is in the hole.
        try kernel.boot("seamlab 2 1fff000 2 31 32 46")
        let error = #expect(throws: ServerError.self) { try kernel.powerOff() }
        #expect(error?.description.contains("processor 1") == true)
    }

    @Test func `a machine that ends before its kernel asks is said to`() throws {
        let kernel = try StandInKernel()
        try kernel.boot("")
        // An empty line is no announcement.
        #expect(throws: ServerError.self) { try kernel.powerOff() }
    }

    @Test func `a program in the machine plans a fault, and takes it back`() throws {
        let kernel = try StandInKernel()
        try kernel.boot()
        #expect(kernel.order("busy 1000 7"))
        #expect(TDXStatus(kernel.call(Registers(.sysInit)).rax).isBusy)
        #expect(kernel.order("calm", on: 1))
        #expect(kernel.call(Registers(.sysInit)).rax == 0)
        let wrong = ["", "busy", "busy 1001", "busy 1 2 3", "fault", "fault nothing", "calm down", "guest leap"]
        for order in wrong { #expect(!kernel.order(order), "\(order)") }
        #expect(kernel.order("fault entropy:2:1"))
        #expect(kernel.order("guest accept 0x1000 4096; halt"))
        let report = try kernel.powerOff()
        #expect(report.calls == 2)
        #expect(kernel.said.count { $0.hasPrefix("ordered: ") } == 4)
    }

    @Test func `a bell without a request changes nothing`() throws {
        let kernel = try StandInKernel()
        try kernel.boot()
        kernel.ring([1, 200])
        #expect(kernel.call(Registers(.sysInit)).rax == 0)
        let report = try kernel.powerOff()
        #expect(report.calls == 1)
        #expect(kernel.said.contains { $0.contains("processor 200") })
    }

    @Test func `every call is recorded, and the recording replays`() throws {
        let kernel = try StandInKernel(trace: "trace")
        try kernel.boot()
        _ = kernel.call(Registers(.sysInit))
        _ = kernel.call(Registers(.sysLpInit))
        _ = kernel.call(Registers(.sysInit))
        _ = try kernel.powerOff()
        let text = try TextFile.read(kernel.directory + "/trace")
        let replay = try TraceReplay(lines: text.split(separator: "\n"))
        #expect(replay.calls == 3 && replay.disagreements.isEmpty, "\(replay.disagreements)")
    }

    @Test func `what cannot be had ends the server before the machine starts, with the file named`() throws {
        let kernel = try StandInKernel()
        let file = kernel.directory + "/memory0"
        let bell = kernel.directory + "/bell"
        func start(_ memory: [String], trace: String? = nil) throws(ServerError) {
            _ = try ModuleServer(ServerOptions(memory: memory, lowMemory: .mebibytes(32), bell: bell, trace: trace)) {
                _ in
            }
        }
        // A recording is never written over.
        let taken = #expect(throws: ServerError.self) { try start([file], trace: file) }
        #expect(taken?.description.contains("EEXIST") == true && taken?.description.contains(file) == true)
        let missing = #expect(throws: ServerError.self) { try start([kernel.directory + "/none"]) }
        #expect(missing?.description.contains("none: open: ENOENT") == true, "\(missing as Any)")
        #expect(throws: ServerError.self) { try start([]) }
    }

    @Test func `memory has a hole below 4 GiB, and outside there is open bus`() throws {
        let kernel = try StandInKernel()
        let memory = kernel.memory
        #expect(
            memory.ranges == [
                HostPhysicalRange(start: HostPhysicalAddress(0), size: .mebibytes(32)),
                HostPhysicalRange(start: HostPhysicalAddress(4 << 30), size: .mebibytes(96)),
            ])
        // The first page above 4 GiB follows the last one below; nodes follow each other.
        for address: UInt64 in [0, (32 << 20) - 4096, 4 << 30, (4 << 30) + (32 << 20), (4 << 30) + (96 << 20) - 4096] {
            let written: [UInt8] = Array(repeating: UInt8(truncatingIfNeeded: address >> 12) | 1, count: 16)
            written.withUnsafeBytes { memory.write(HostPhysicalAddress(address), key: KeyID(0), from: $0) }
            var read = [UInt8](repeating: 0, count: 16)
            read.withUnsafeMutableBytes { memory.read(HostPhysicalAddress(address), key: KeyID(0), into: $0) }
            #expect(read == written)
        }
        #expect(memory.accessesOutside == 0)
        for address: UInt64 in [32 << 20, (4 << 30) - 4096, (4 << 30) + (96 << 20), 1 << 51] {
            var read: [UInt8] = [0, 0]
            read.withUnsafeMutableBytes { memory.read(HostPhysicalAddress(address), key: KeyID(0), into: $0) }
            #expect(read == [0xFF, 0xFF])
        }
        #expect(memory.accessesOutside == 4)
    }
}
