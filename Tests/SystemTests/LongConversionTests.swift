import ControlInterface
import Glibc
import MemoryUnits
import Testing
import Varlink

/// Conversions of more than one chunk, as clients see them while they last.
@Suite(.serialized) struct LongConversionTests {
    private static let chunk = HolderInterface.Convert.chunk.rawValue

    @Test(arguments: MainJobTests.backends)
    func `a long conversion tells how far it is, and its last reply is the whole`(backend: String) throws {
        let host = try PrivateHost(backend: backend)
        let size = 8 * Self.chunk
        _ = try host.create("web1", mebibytes: size >> 20)
        var soFar: [ManagerInterface.Convert.Reply] = []
        var last: ManagerInterface.Convert.Reply?
        try host.client().callMore(
            ManagerInterface.Convert.method,
            ManagerInterface.Convert.Parameters(name: "web1", gpa: 0, bytes: size, to: .shared),
            as: ManagerInterface.Convert.Reply.self, timeout: .seconds(60)
        ) { reply, isLast in
            if isLast { last = reply } else { soFar.append(reply) }
        }
        let steps = soFar.compactMap(\.progress)
        #expect(steps.count == soFar.count && steps.allSatisfy { $0.phase == "convert" && $0.totalBytes == size })
        // The first chunk and the last are always told.
        #expect(steps.first?.doneBytes == Self.chunk && steps.last?.doneBytes == size, "\(steps)")
        #expect(steps.map(\.doneBytes) == steps.map(\.doneBytes).sorted())
        #expect(soFar.map(\.changedBytes) == steps.map(\.doneBytes), "all of it was private")
        #expect(last?.progress == nil && last?.changedBytes == size && last?.emulated == true)

        // Who asks for one answer gets one.
        let one = try host.convert("web1", gpa: 0, bytes: size, to: .private)
        #expect(one.progress == nil && one.changedBytes == size)
        #expect(try host.stop("web1").complete)
    }

    @Test func `a client that leaves ends its conversion between two chunks`() throws {
        let host = try PrivateHost()
        let size = 16 * Self.chunk
        _ = try host.create("web1", mebibytes: size >> 20)
        // The end of the work may come before the news that nobody wants it: then it is done again.
        for _ in 0..<10 {
            // What is resident takes a while to be punched.
            try host.makeResident(2 * size)
            let outcome = Result {
                try host.client().callMore(
                    ManagerInterface.Convert.method,
                    ManagerInterface.Convert.Parameters(name: "web1", gpa: 0, bytes: size, to: .shared),
                    as: ManagerInterface.Convert.Reply.self, timeout: .seconds(60), while: { false }
                ) { _, _ in }
            }
            guard case .failure(VarlinkClientError.givenUp) = outcome else {
                Issue.record("\(outcome)")
                return
            }
            var last: ConversionAccount?
            #expect(
                try eventually {
                    last = try host.client().call(
                        ManagerInterface.Conversions.method, ManagerInterface.Conversions.Parameters(name: "web1"),
                        as: ManagerInterface.Conversions.Reply.self
                    ).conversions.last
                    return last?.to == .shared
                }, "\(host.log)")
            let done = try #require(last?.doneBytes)
            if done == size {
                _ = try host.convert("web1", gpa: 0, bytes: size, to: .private)
                continue
            }
            #expect(last?.outcome == .cancelled && done > 0 && done % Self.chunk == 0, "\(String(describing: last))")
            let map = try host.client().call(
                ManagerInterface.Map.method, ManagerInterface.Map.Parameters(name: "web1"),
                as: ManagerInterface.Map.Reply.self)
            #expect(map.runs.map(\.attribute) == [.shared, .private] && map.runs.first?.bytes == done, "\(map)")
            // The TD is as usable as before.
            #expect(try host.convert("web1", gpa: 0, bytes: size, to: .shared).changedBytes == size - done)
            #expect(try host.stop("web1").complete && host.leavesNothing())
            return
        }
        Issue.record("no conversion of ten was ended before it was over: \(host.log)")
    }
}
