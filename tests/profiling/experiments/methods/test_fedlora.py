"""FedLoRA averages the factors by themselves, which is not the mean of their products."""

from __future__ import annotations

from profiling.experiments.drift import products
from profiling.experiments.method import Parts
from profiling.experiments.methods.fedlora import FedLora
from tests.peers import CLIENTS, LAYOUT, a_round, a_setup, client_state, close_to, mean_of

METHOD = FedLora()
CLIENTS_OF_ONE_SHARE = CLIENTS[:2]


def test_both_factors_learn_and_travel_in_every_round() -> None:
    assert {METHOD.parts(number) for number in range(1, 20)} == {Parts(a=True, e=False, b=True)}


def test_every_client_trains_all_ranks_in_every_round() -> None:
    setup = a_setup()
    model = METHOD.start(setup)
    for number in (1, 2):
        for client in CLIENTS_OF_ONE_SHARE:
            assert (METHOD.task(setup, model, client, number).trained == setup.alive).all()
        model, _ = a_round(METHOD, setup, model, number)


def test_the_mean_of_the_factors_is_not_the_mean_of_their_products() -> None:
    setup = a_setup()
    model, _ = a_round(METHOD, setup, METHOD.start(setup), 1, CLIENTS_OF_ONE_SHARE)
    after, uploads = a_round(METHOD, setup, model, 2, CLIENTS_OF_ONE_SHARE)
    weights = [float(client.examples) for client in CLIENTS_OF_ONE_SHARE]
    of_clients = [products(LAYOUT, client_state(model.fleet.state, one, METHOD.parts(2))) for one in uploads]
    assert not close_to(products(LAYOUT, after.fleet.state.rows), mean_of(of_clients, weights))
