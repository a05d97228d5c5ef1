import MemoryUnits
import TDXModule
import TDXModuleServer
import Testing

@Suite struct AnnouncementTests {
    @Test func `a kernel's line is read`() throws {
        let read = try Announcement(parsing: "seamlab 2 1000e0000 2 31 32 46")
        #expect(read.mailboxes == HostPhysicalAddress(0x1_000E_0000))
        #expect(try Announcement(parsing: "seamlab 1 1000e0000 2 31 32 46") == read)
        #expect(read.processors == 2 && read.mktmeKeys == 31 && read.tdxKeys == 32 && read.addressBits == 46)
    }

    @Test(arguments: [
        ("", "does not begin with “seamlab”"), ("seamlab", "version “” of the mailbox"),
        ("seamlab 3 1000 2 31 32 46", "version “3” of the mailbox"), ("seamlab 2 1000 2 31 32", "6 words"),
        ("seamlab 2 1001 2 31 32 46", "not page aligned"), ("seamlab 2 x 2 31 32 46", "the mailboxes' address"),
        ("seamlab 2 1000 0 31 32 46", "the number of processors"), ("seamlab 2 1000 257 31 32 46", "processors"),
        ("seamlab 2 1000 2 31 0 46", "the number of TDX key ids"), ("seamlab 2 1000 2 31 32 52", "address bits"),
        ("seamlab 2 1000 2 -1 32 46", "MKTME"), ("seamlab 2  2 31 32 46", "address of the announcement is “”"),
    ])
    func `a line that is none is refused with its wrong part`(line: String, part: String) {
        let error = #expect(throws: ServerError.self) { try Announcement(parsing: line) }
        #expect(error?.description.contains(part) == true, "\(error as Any)")
    }
}

@Suite struct GuestScriptTests {
    @Test func `each step is read, with numbers in both forms`() throws {
        let script = try GuestScript(
            parsing: """
                # a comment
                accept 0x80000000 8192; write 4096 0x77
                share 0x1000 4096; private 0x1000 4096; compute 5; halt; output 0x3f8 65
                quote 0 4096; read 8; fatal 0x12; triple-fault; again
                """)
        let page = GuestPhysicalRange(start: GuestPhysicalAddress(0x1000), size: ByteCount(4096))
        #expect(
            script.steps == [
                .accept(GuestPhysicalRange(start: GuestPhysicalAddress(0x8000_0000), size: ByteCount(8192))),
                .write(GuestPhysicalAddress(4096), 0x77), .map(page, toShared: true), .map(page, toShared: false),
                .compute(milliseconds: 5), .halt, .output(port: 0x3F8, 65),
                .quote(GuestPhysicalRange(start: GuestPhysicalAddress(0), size: ByteCount(4096))),
                .read(GuestPhysicalAddress(8)), .fatal(code: 0x12), .tripleFault, .again,
            ])
        #expect(try GuestScript(parsing: " ; \n") == .idle)
    }

    @Test(arguments: [
        ("jump 3", "step 1", "“jump” is unknown"), ("halt; accept 1 4096", "step 2", "0x1 is not a multiple of 4096"),
        ("accept 0 100", "step 1", "100 bytes are no whole 4 KiB pages"), ("accept 0 0", "step 1", "0 bytes"),
        ("accept 0", "step 1", "takes 2 numbers"), ("halt 1", "step 1", "takes 0 numbers, not 1"),
        ("read 0xzz", "step 1", "“0xzz” is not a number"), ("output 65536 0", "step 1", "from 0 to 0xffff"),
        ("read 4", "step 1", "not a multiple of 8"), ("accept 0 4096; again", "never leaves", "again"),
    ])
    func `a wrong step is refused with its number and why`(text: String, place: String, reason: String) {
        let error = #expect(throws: ServerError.self) { try GuestScript(parsing: text) }
        #expect(
            error?.description.contains(place) == true && error?.description.contains(reason) == true, "\(error as Any)"
        )
    }
}

@Suite struct PlannedFaultTests {
    @Test func `name, times and skipped places are read`() throws {
        #expect(try PlannedFault(parsing: "entropy") == PlannedFault(.entropy))
        #expect(try PlannedFault(parsing: "page-metadata:3:10") == PlannedFault(.pageMetadata, times: 3, skipping: 10))
        for known in PlannedFault.names { #expect(try PlannedFault(parsing: known.name).fault == known.fault) }
        #expect(PlannedFault.names.count == Fault.allCases.count)
    }

    @Test(arguments: ["", "rain", "entropy:0", "entropy:x", "entropy:1:-1", "entropy:1:2:3", "entropy:"])
    func `what is no fault is refused`(text: String) {
        #expect(throws: ServerError.self) { try PlannedFault(parsing: text) }
    }
}
