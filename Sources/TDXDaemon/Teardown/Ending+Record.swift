internal import ControlInterface
internal import FoundationEssentials
internal import LinuxSystem

extension Ending {
    /// Takes what the holder has written down of its end, where nobody heard it.
    ///
    /// - Returns: false when it has written nothing, or nothing that can be read: then the end was not over for it.
    @discardableResult
    mutating func takeRecord(in directory: String) -> Bool {
        // It has been heard: the holder's answer and its record are one.
        guard !phases.contains(where: { $0.name == .release }) else { return true }
        guard let bytes = try? DurableFile.read(path: HolderPlaces.end(in: directory)), !bytes.isEmpty,
            let answer = try? JSONDecoder().decode(HolderInterface.Stop.Reply.self, from: Data(bytes)),
            answer.phases != nil
        else { return false }
        take(answer)
        // Whoever wrote it is gone.
        isWithheldByHolder = false
        return true
    }
}
