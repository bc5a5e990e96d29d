"""The book of grants: what each slot should hold, what is due, and what is never given back to one."""

from flow_nexus_neural.coordination.link_grants import Change, GrantBook
from flow_nexus_neural.coordination.topology import ENGINE

RING = (("a", "b"), ("b", "c"), ("a", "c"))
MEMBERS = {"a": "a#1", "b": "b#1", "c": "c#1"}


def published(*slots, edges=RING, epoch=1):
    book = GrantBook()
    book.want(edges, epoch)
    for slot in slots:
        book.publish(slot, MEMBERS[slot])
    return book


def carry_out(book, members=MEMBERS):
    for change in book.due(members):
        book.revoked(change, change.revoke)
        for publication in change.grant:
            book.granted(change, publication)


def keys(book, *slots):
    return {book.publication(slot).key for slot in slots}


def test_a_key_names_epoch_number_and_slot_and_is_never_used_twice():
    book = published("a", "b", epoch=4)
    assert [book.publication(slot).key for slot in "ab"] == ["link:4.1:a", "link:4.2:b"]
    assert book.publish("a", "a#1").key == "link:4.3:a"
    book.want(RING, 5)
    assert book.publish("b", "b#1").key == "link:5.4:b"


def test_a_slot_is_due_its_own_key_and_those_of_its_neighbours_sorted():
    book = published("c", "a", "b", edges=RING[:2])
    due = {change.reader: change for change in book.due(MEMBERS)}
    assert list(due) == list(MEMBERS)
    assert [p.slot for p in due["b"].grant] == ["c", "a", "b"]  # in the order of their keys
    assert {p.slot for p in due["a"].grant} == {"a", "b"}
    assert all(change.revoke == () for change in due.values())
    assert book.published() == ("a", "b", "c")


def test_what_was_carried_out_is_due_no_more_and_what_failed_is_due_again():
    book = published("a", "b")
    first, second = book.due({"a": "a#1", "b": "b#1"})
    for publication in first.grant:
        book.granted(first, publication)
    book.granted(second, second.grant[0])
    (again,) = book.due({"a": "a#1", "b": "b#1"})
    assert again == Change("b", "b#1", (), second.grant[1:])
    assert book.held("a") == keys(book, "a", "b")


def test_lost_edges_and_withdrawn_keys_are_revoked():
    book = published(*MEMBERS)
    carry_out(book)
    gone = book.publication("c").key
    book.withdraw("c")
    due = {change.reader: change for change in book.due(MEMBERS)}
    assert due["a"].revoke == due["b"].revoke == (gone,)
    assert due["c"].revoke == tuple(sorted({gone, *keys(book, "a", "b")}))
    assert due["a"].grant == due["c"].grant == ()


def test_a_new_incarnation_holds_nothing_and_reports_of_the_former_one_do_not_count():
    book = published(*MEMBERS)
    late = book.due(MEMBERS)[0]
    carry_out(book)
    reborn = MEMBERS | {"a": "a#2"}
    book.publish("a", "a#2")
    (change, *_) = book.due(reborn)
    assert (change.reader, change.node_id, change.revoke) == ("a", "a#2", ())
    assert len(change.grant) == 3
    book.granted(late, late.grant[0])
    assert book.held("a") == frozenset()


def test_neighbours_of_a_slot_that_leaves_publish_anew_only_if_it_lives_on():
    book = published(*MEMBERS, edges=RING[:2])
    assert book.leave("b", lives_on=True) == ("a", "c")
    assert book.publication("b") is None
    assert book.leave("a", lives_on=False) == ()


def test_an_edge_to_the_engine_needs_no_key():
    book = published("a", "b", edges=((ENGINE, "a"), (ENGINE, "b")))
    assert [[p.slot for p in change.grant] for change in book.due(MEMBERS)] == [["a"], ["b"]]
    assert book.leave("a", lives_on=True) == ()


def test_a_cleared_book_knows_of_no_key():
    book = published(*MEMBERS)
    carry_out(book)
    book.clear()
    assert book.published() == ()
    assert [book.held(slot) for slot in MEMBERS] == [frozenset()] * 3
    assert book.due(MEMBERS) == ()
